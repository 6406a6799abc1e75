//! What can go wrong.

/// Why an expression cannot be used: cel-go's words, with the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Compile {
    /// `ERROR: <input>:1:5: undefined field 'x'`, the line, and a mark below the place.
    pub text: String,
}

impl Compile {
    /// Of the whole, as cel-go tells it.
    pub(crate) fn of_all(words: &str) -> Self {
        Self { text: format!("ERROR: <input>:-1:0: {words}") }
    }

    /// An error at an offset (in characters) of the source.
    pub(crate) fn at(source: &str, offset: usize, words: &str) -> Self {
        let before: String = source.chars().take(offset).collect();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or("").chars().count();
        if source.is_empty() {
            return Self { text: format!("ERROR: <input>:1:0: {words}") };
        }
        let shown = source.split('\n').nth(line).unwrap_or("").replace('\t', " ");
        let mark = ".".repeat(column);
        Self { text: format!("ERROR: <input>:{}:{}: {words}\n | {shown}\n | {mark}^", line + 1, column + 1) }
    }
}

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// `no such key: x`.
    #[error("{0}")]
    Failed(String),
    /// The budget is used up.
    #[error("operation cancelled: actual cost limit exceeded")]
    OverBudget,
}

impl Failure {
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self::Failed(words.into())
    }
    pub(crate) fn no_overload() -> Self {
        Self::new("no such overload")
    }
}
