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
        crate::pattern::check(text)
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
