//! `fieldPath` of rules and `jsonPath` of selectable fields: `.spec.a`, `.x['y.z']`.

use schema::structural::Node;

/// The path from a schema to a field, as errors have it (`spec.a`, `x[y.z]`), and the field's schema; why there is none.
pub(crate) fn follow<'n>(path: &str, node: &'n Node, brackets: bool) -> Result<(String, &'n Node), String> {
    let (mut tokens, mut at, mut shown) = (Tokens(path), node, String::new());
    let end = || "unexpected end of JSON path".to_owned();
    while let Some(token) = tokens.next() {
        let name = match token {
            "[" if !brackets => return Err("array notation is not allowed".into()),
            "[" => {
                let quoted = tokens.next().ok_or_else(end)?;
                let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?.replace("\\'", "'")
            }
            "." => tokens.next().ok_or_else(end)?.to_owned(),
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let unknown = || "does not refer to a valid field".to_owned();
        if at.properties.is_empty() {
            at = at.entry().ok_or_else(unknown)?;
            shown.push_str(&format!("[{name}]"));
        } else {
            at = at.field(&name).ok_or_else(unknown)?;
            shown.push_str(if shown.is_empty() { "" } else { "." });
            shown.push_str(&name);
        }
        if token == "[" {
            match tokens.next().ok_or_else(end)? {
                "]" => {}
                other => return Err(format!("expected ] but got {other}")),
            }
        }
    }
    Ok((shown, at))
}

/// The path below another.
pub(super) fn join(base: &str, path: &str, node: &Node) -> String {
    match (base, follow(path, node, true)) {
        (base, Err(_)) => base.to_owned(),
        ("", Ok((path, _))) => path,
        (base, Ok((path, _))) => format!("{base}.{path}"),
    }
}

/// Delimiters, and what is between them; a quoted text is whole.
struct Tokens<'p>(&'p str);

impl<'p> Iterator for Tokens<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        let rest = self.0;
        let first = rest.chars().next()?;
        let end = if matches!(first, '.' | '[' | ']') {
            1
        } else if first == '\'' {
            let mut last = first;
            let closing = rest.char_indices().skip(1).find(|(_, c)| {
                let closes = *c == '\'' && last != '\\';
                last = *c;
                closes
            });
            closing.map_or(rest.len(), |(at, _)| at + 1)
        } else {
            rest.find(['.', '[', ']']).unwrap_or(rest.len())
        };
        let (token, rest) = rest.split_at(end);
        self.0 = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_upstreams() {
        let node = Node::parse(&json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"b.c": {"type": "string"}}}, "m": {"type": "object", "additionalProperties": {"type": "string"}}}}));
        let check = |path: &str, brackets: bool| follow(path, &node, brackets).map(|(shown, _)| shown);
        assert_eq!(check(".a['b.c']", true).as_deref(), Ok("a.b.c"));
        assert_eq!(check(".m.x", false).as_deref(), Ok("m[x]"));
        for (path, why) in [
            (".a[0]", "expected single quoted string but got 0"),
            ("a", "expected [ or . but got: a"),
            (".", "unexpected end of JSON path"),
            (".x", "does not refer to a valid field"),
        ] {
            assert_eq!(check(path, true), Err(why.to_owned()), "{path}");
        }
        assert_eq!(check(".a['b.c']", false), Err("array notation is not allowed".into()));
    }
}
