//! Tokens from a file (`--token-auth-file`): `token,user,uid,"group1,group2"` in each line.

use std::collections::HashMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::user::User;

/// The tokens of the file, by their hash: a lookup then tells nothing by the time that it takes.
#[derive(Default)]
pub(crate) struct StaticTokens(HashMap<[u8; 32], User>);

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl StaticTokens {
    /// Reads the file; the error says what is wrong with it.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        Self::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = HashMap::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let record = record(line)?;
            let [token, name, uid, rest @ ..] = record.as_slice() else {
                let found = record.len();
                return Err(format!("at least 3 columns are needed (token, user name, user uid), found {found}"));
            };
            if token.is_empty() {
                tracing::warn!("the token file has an empty token");
                continue;
            }
            let groups: Vec<&str> = rest.first().map(|g| g.split(',').collect()).unwrap_or_default();
            let groups: Vec<&str> = groups.into_iter().filter(|g| !g.is_empty()).collect();
            let user = User { uid: uid.clone(), ..User::new(name, &groups) };
            if tokens.insert(hash(token), user).is_some() {
                tracing::warn!("the token file has a token twice");
            }
        }
        Ok(Self(tokens))
    }

    pub(crate) fn user(&self, token: &str) -> Option<User> {
        if self.0.is_empty() { None } else { self.0.get(&hash(token)).cloned() }
    }
}

/// The fields of a CSV line (RFC 4180, without line breaks in fields).
fn record(line: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            '"' => return Err("bare \" in non-quoted field".into()),
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err("extraneous or missing \" in quoted-field".into());
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let tokens = StaticTokens::parse("secret,jane,u1,\"dev,ops\"\n\nother,bob,u2\n").unwrap();
        let jane = tokens.user("secret").unwrap();
        assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("jane", "u1"));
        assert_eq!(jane.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(tokens.user("other").unwrap().groups, ["system:authenticated"]);
        assert!(tokens.user("").is_none() && tokens.user("secre").is_none());
        assert!(StaticTokens::parse("a,b").is_err());
        assert!(StaticTokens::parse("a,b,\"c").is_err());
    }
}
