//! The query-string form of label selectors, token by token as upstream reads it: what does not parse must be refused, since a
//! DELETE of a collection would otherwise select too much.

use std::collections::BTreeSet;

use super::{Operator, Requirement, key_words};

/// A piece of a selector.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    End,
    Comma,
    Open,
    Close,
    Not,
    /// `=`, `==`, `!=`, `>`, `<`; also the words `in` and `notin` where an operator is due.
    Operator(Operator, &'a str),
    Word(&'a str),
    Unknown(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::End => "",
            Self::Comma => ",",
            Self::Open => "(",
            Self::Close => ")",
            Self::Not => "!",
            Self::Operator(_, text) | Self::Word(text) | Self::Unknown(text) => text,
        }
    }
}

fn symbol(text: &str) -> Option<Token<'_>> {
    Some(match text {
        "," => Token::Comma,
        "(" => Token::Open,
        ")" => Token::Close,
        "!" => Token::Not,
        "=" | "==" => Token::Operator(Operator::Equals, text),
        "!=" => Token::Operator(Operator::NotEquals, text),
        ">" => Token::Operator(Operator::Gt, text),
        "<" => Token::Operator(Operator::Lt, text),
        _ => return None,
    })
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next() else { break };
        let length = if is_special(first) {
            // The longest symbol that there is.
            let two = rest.get(..2).filter(|two| symbol(two).is_some());
            two.map_or(1, str::len)
        } else {
            rest.find(|c: char| is_special(c) || matches!(c, ' ' | '\t' | '\r' | '\n')).unwrap_or(rest.len())
        };
        let (piece, after) = rest.split_at(length);
        let word = if is_special(first) { Token::Unknown(piece) } else { Token::Word(piece) };
        tokens.push(symbol(piece).unwrap_or(word));
        rest = after;
    }
    tokens.push(Token::End);
    tokens
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

/// Parses the whole.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            Token::End => return Ok(requirements),
            Token::Word(_) | Token::Not => {
                let found = parser.requirement().map_err(|why| format!("unable to parse requirement: {why}"))?;
                requirements.push(found);
            }
            other => return Err(found(other, ", expected: !, identifier, or 'end of string'")),
        }
        match parser.next() {
            Token::End => return Ok(requirements),
            Token::Comma if matches!(parser.peek(), Token::Word(_) | Token::Not) => {}
            Token::Comma => return Err(found(parser.peek(), ", expected: identifier after ','")),
            other => return Err(found(other, ", expected: ',' or 'end of string'")),
        }
    }
}

fn found(token: Token<'_>, expected: &str) -> String {
    format!("found '{}'{expected}", token.text())
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut first = self.next();
        let absent = first == Token::Not;
        if absent {
            first = self.next();
        }
        let Token::Word(key) = first else { return Err(found(first, ", expected: identifier")) };
        if let Some(words) = key_words(key) {
            return Err(format!("<nil>: Invalid value: {}: {words}", crate::quoted(key)));
        }
        let made = |operator, values: BTreeSet<&str>| Requirement {
            key: key.into(),
            operator,
            values: values.into_iter().map(Into::into).collect(),
        };
        if absent {
            return Ok(made(Operator::DoesNotExist, BTreeSet::new()));
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(made(Operator::Exists, BTreeSet::new()));
        }
        let (operator, set) = match self.next() {
            Token::Operator(operator, _) => (operator, false),
            Token::Word("in") => (Operator::In, true),
            Token::Word("notin") => (Operator::NotIn, true),
            other => return Err(found(other, ", expected: in, notin, =, ==, !=, gt, lt")),
        };
        let values = if set { self.values()? } else { BTreeSet::from([self.value()?]) };
        let mut wrong = Vec::new();
        for (at, value) in values.iter().enumerate() {
            let shown = crate::quoted(value);
            if matches!(operator, Operator::Gt | Operator::Lt) && value.parse::<i64>().is_err() {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                wrong.push(format!("values[{at}]: Invalid value: {shown}: {why}"));
            }
            if value.len() > 63 {
                wrong.push(format!("values[{at}][{key}]: Invalid value: {shown}: must be no more than 63 bytes"));
            }
            if !value.is_empty() && !super::is_label_word(value) {
                wrong.push(format!("values[{at}][{key}]: Invalid value: {shown}: {VALUE}"));
            }
        }
        match wrong.len() {
            0 => Ok(made(operator, values)),
            1 => Err(wrong.remove(0)),
            _ => Err(format!("[{}]", wrong.join(", "))),
        }
    }

    /// What follows `=`.
    fn value(&mut self) -> Result<&'a str, String> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok("");
        }
        match self.next() {
            Token::Word(word) => Ok(word),
            other => Err(found(other, ", expected: identifier")),
        }
    }

    /// What follows `in`. Nothing between two commas is an empty value.
    fn values(&mut self) -> Result<BTreeSet<&'a str>, String> {
        let open = self.next();
        if open != Token::Open {
            return Err(found(open, " expected: '('"));
        }
        let mut values = BTreeSet::new();
        match self.peek() {
            Token::Close => {
                self.at += 1;
                return Ok(BTreeSet::from([""]));
            }
            Token::Word(_) | Token::Comma => {}
            other => return Err(found(other, ", expected: ',', ')' or identifier")),
        }
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.insert(word);
                    match self.peek() {
                        Token::Comma => continue,
                        Token::Close => break,
                        other => return Err(found(other, ", expected: ',' or ')'")),
                    }
                }
                Token::Comma => {
                    if values.is_empty() {
                        values.insert("");
                    }
                    match self.peek() {
                        Token::Close => {
                            values.insert("");
                            break;
                        }
                        Token::Comma => {
                            self.at += 1;
                            values.insert("");
                        }
                        _ => {}
                    }
                }
                other => return Err(found(other, ", expected: ',', or identifier")),
            }
        }
        self.at += 1;
        Ok(values)
    }
}

const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
