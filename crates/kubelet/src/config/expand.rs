//! `$(VAR)` in values, commands and arguments; `$$` escapes.

/// Replaces `$(NAME)` by `lookup(NAME)`; what is not found stays as it was written.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|a| a.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The same where an unknown name is an error (`subPathExpr`).
pub(crate) fn expand_strictly(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let out = expand(text, |name| {
        let found = lookup(name);
        if found.is_none() {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        found
    });
    match missing.into_inner() {
        Some(name) => Err(format!("missing value for {name:?}")),
        None => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn expansion() {
        let lookup = |name: &str| (name == "A").then(|| "x$(B)".to_owned());
        for (text, expect) in [
            ("$(A)", "x$(B)"),
            ("a $(A) $(B)", "a x$(B) $(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$x$(B)"),
            ("$A ${A} $(A", "$A ${A} $(A"),
            ("cost: 5$", "cost: 5$"),
        ] {
            assert_eq!(super::expand(text, lookup), expect, "{text}");
        }
        assert!(super::expand_strictly("$(B)", lookup).is_err());
    }
}
