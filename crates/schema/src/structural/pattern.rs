//! Regular expressions, as Go has them.

use std::borrow::Cow;

use regex::Regex;

/// A regular expression and its text. One that cannot be compiled matches nothing to complain about.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As the schema has it.
    pub text: String,
    regex: Option<Regex>,
}

/// Bytes that a compiled pattern may take.
const MOST_PATTERN: usize = 1 << 20;
/// How often something may be repeated, in Go.
const MOST_REPETITIONS: u32 = 1000;

impl Pattern {
    /// Compiles a pattern.
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), regex: built(text).ok() }
    }

    /// Why a pattern cannot be compiled, as Go says it.
    pub fn check(text: &str) -> Result<(), String> {
        Self::compile(text).map(drop)
    }

    /// A pattern that Go would take, too; or why not, as Go says it.
    pub fn compile(text: &str) -> Result<Regex, String> {
        let built = built(text).map_err(|error| {
            let said = error.to_string();
            let said = said.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            match said {
                said if said.starts_with("unclosed group") => format!("missing closing ): `{text}`"),
                said if said.starts_with("unopened group") => format!("unexpected ): `{text}`"),
                said if said.starts_with("unclosed character class") => format!("missing closing ]: `{text}`"),
                said if said.starts_with("repetition operator missing") => {
                    let at = text.find(['*', '+', '?']).map_or("", |at| &text[at..=at]);
                    format!("missing argument to repetition operator: `{at}`")
                }
                said if said.starts_with("look-around") => {
                    let at = text.find("(?").unwrap_or(0);
                    let end = text[at..].find(['=', '!']).map_or(text.len(), |end| at + end + 1);
                    format!("invalid or unsupported Perl syntax: `{}`", &text[at..end])
                }
                other => repetitions(text).err().unwrap_or_else(|| format!("{other}: `{text}`")),
            }
        })?;
        repetitions(text)?;
        Ok(built)
    }

    /// True when the pattern occurs in the text.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

fn built(text: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(&unquoted(text)).size_limit(MOST_PATTERN).build()
}

/// What stands between `\Q` and `\E` means itself.
fn unquoted(text: &str) -> Cow<'_, str> {
    if !text.contains("\\Q") {
        return text.into();
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(quoted) = after.strip_prefix('Q') {
            let (literal, next) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(literal));
            rest = next;
            continue;
        }
        let escaped = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&rest[at..=at + escaped]);
        rest = &after[escaped..];
    }
    out.push_str(rest);
    out.into()
}

/// Go refuses what is repeated twice, and counts above a thousand.
fn repetitions(text: &str) -> Result<(), String> {
    let text = unquoted(text);
    let bytes = text.as_bytes();
    let (mut at, mut in_class, mut before): (usize, bool, Option<usize>) = (0, false, None);
    while at < bytes.len() {
        let start = at;
        let length = match bytes[at] {
            b'\\' => {
                at += 2;
                before = None;
                continue;
            }
            b'[' if !in_class => {
                in_class = true;
                // A bracket that closes nothing yet is one of the class.
                let skip = text[at + 1..].strip_prefix('^').map_or(0, |_| 1);
                at += 1 + skip + usize::from(bytes.get(at + 1 + skip) == Some(&b']'));
                continue;
            }
            b']' if in_class => {
                in_class = false;
                0
            }
            b'*' | b'+' | b'?' if !in_class => 1,
            b'{' if !in_class => counted(&text[at..])?,
            _ => 0,
        };
        at += length.max(1);
        if length == 0 {
            // Flags of a group are no repetition.
            if bytes[start] == b'(' && bytes.get(at) == Some(&b'?') {
                at += 1;
            }
            before = None;
            continue;
        }
        if let Some(first) = before {
            return Err(format!("invalid nested repetition operator: `{}`", &text[first..at]));
        }
        at += usize::from(bytes.get(at) == Some(&b'?'));
        before = Some(start);
    }
    Ok(())
}

/// The length of `{2,3}` at the beginning of a text; none when it is something else.
fn counted(text: &str) -> Result<usize, String> {
    let Some((inner, _)) = text[1..].split_once('}') else { return Ok(0) };
    let (least, most) = inner.split_once(',').unwrap_or((inner, inner));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(least) || !(most.is_empty() || is_number(most)) {
        return Ok(0);
    }
    let over = |digits: &str| !digits.is_empty() && digits.parse::<u32>().map_or(true, |n| n > MOST_REPETITIONS);
    let length = inner.len() + 2;
    match over(least) || over(most) {
        true => Err(format!("invalid repeat count: `{}`", &text[..length])),
        false => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_refuses_and_takes() {
        for (text, wanted) in [
            ("(", "missing closing ): `(`"),
            ("[", "missing closing ]: `[`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{2,4294967296}", "invalid repeat count: `{2,4294967296}`"),
        ] {
            assert_eq!(Pattern::check(text), Err(wanted.into()), "{text}");
        }
        for text in ["a*?b+?", "[*+]*", "[]*+]+", "(?i:a)*", "\\**", "a{2,3}?", "\\Q**[\\E*", "\\\\Q*", "é*\\é*"] {
            assert_eq!(Pattern::check(text), Ok(()), "{text}");
        }
        assert!(Pattern::new("^\\Q[a]\\E+$").matches("[a]]") && !Pattern::new("\\Q.\\E").matches("a"));
    }
}
