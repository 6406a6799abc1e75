//! Regular expressions of schemas.

use regex::Regex;

/// A regular expression and its text. One that cannot be compiled matches nothing to complain about.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As the schema has it.
    pub text: String,
    regex: Option<Regex>,
}

impl Pattern {
    /// Compiles a pattern.
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), regex: Self::compile(text).ok() }
    }

    /// Why a pattern cannot be compiled, as Go says it.
    pub fn check(text: &str) -> Result<(), String> {
        Self::compile(text).map(drop)
    }

    /// A pattern as Go takes it; or why not, as Go says it.
    pub fn compile(text: &str) -> Result<Regex, String> {
        crate::pattern::compile(text)
    }

    /// True when the pattern occurs in the text.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.as_ref().is_none_or(|regex| regex.is_match(text))
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
