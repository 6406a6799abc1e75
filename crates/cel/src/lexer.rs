//! Text into tokens.

use std::sync::Arc;

use crate::error::Compile;
use crate::value::Value;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Literal(Value),
    Name(String),
    /// An operator or bracket.
    Sign(&'static str),
    End,
}

/// Longer signs first.
const SIGNS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", ".?", "[?", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ",", ".", "(",
    ")", "[", "]", "{",
];

struct Lexer<'s> {
    source: &'s str,
    chars: Vec<char>,
    at: usize,
}

/// The tokens of a text with their offsets; the last one is [`Token::End`].
pub(crate) fn tokens(source: &str) -> Result<Vec<(usize, Token)>, Compile> {
    let mut lexer = Lexer { source, chars: source.chars().collect(), at: 0 };
    let mut all = Vec::new();
    loop {
        lexer.skip();
        let at = lexer.at;
        let token = lexer.token()?;
        let done = token == Token::End;
        all.push((at, token));
        if done {
            return Ok(all);
        }
    }
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn error<T>(&self, at: usize, words: &str) -> Result<T, Compile> {
        Err(Compile::at(self.source, at, &format!("Syntax error: {words}")))
    }

    fn skip(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (' ' | '\t' | '\n' | '\r' | '\u{c}', _) => self.at += 1,
                ('/', '/') => {
                    while self.at < self.chars.len() && self.peek(0) != '\n' {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn token(&mut self) -> Result<Token, Compile> {
        if self.at >= self.chars.len() {
            return Ok(Token::End);
        }
        let first = self.peek(0);
        if first.is_ascii_digit() || (first == '.' && self.peek(1).is_ascii_digit()) {
            return self.number();
        }
        if let Some((raw, bytes, prefix)) = self.quote() {
            self.at += prefix;
            return self.string(raw, bytes);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let start = self.at;
            while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
                self.at += 1;
            }
            let name: String = self.chars[start..self.at].iter().collect();
            return Ok(match name.as_str() {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "null" => Token::Literal(Value::Null),
                "in" => Token::Sign("in"),
                _ => Token::Name(name),
            });
        }
        if first == '`' {
            let start = self.at + 1;
            let Some(length) = self.chars[start..].iter().position(|c| *c == '`') else {
                return self.error(self.at, "token recognition error at: '`'");
            };
            self.at = start + length + 1;
            return Ok(Token::Name(self.chars[start..start + length].iter().collect()));
        }
        if first == '}' {
            self.at += 1;
            return Ok(Token::Sign("}"));
        }
        let starts = |sign: &&&str| sign.chars().enumerate().all(|(i, c)| self.peek(i) == c);
        match SIGNS.iter().find(starts) {
            // `a ? .5 : b` and `[? x]` are told apart by the parser; `.?` needs a name after it.
            Some(sign) => {
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
            None => self.error(self.at, &format!("token recognition error at: '{first}'")),
        }
    }

    /// Raw, bytes, and how many letters precede the quote.
    fn quote(&self) -> Option<(bool, bool, usize)> {
        let is_quote = |c: char| c == '"' || c == '\'';
        let letters: String = (0..3).map(|i| self.peek(i).to_ascii_lowercase()).collect();
        for (prefix, raw, bytes) in
            [("", false, false), ("r", true, false), ("b", false, true), ("br", true, true), ("rb", true, true)]
        {
            if letters.starts_with(prefix) && is_quote(self.peek(prefix.len())) {
                return Some((raw, bytes, prefix.len()));
            }
        }
        None
    }

    fn number(&mut self) -> Result<Token, Compile> {
        let start = self.at;
        let bad = |lexer: &Self, kind: &str| Err(Compile::at(lexer.source, start, &format!("invalid {kind} literal")));
        if self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X') {
            self.at += 2;
            let from = self.at;
            while self.peek(0).is_ascii_hexdigit() {
                self.at += 1;
            }
            let digits: String = self.chars[from..self.at].iter().collect();
            if matches!(self.peek(0), 'u' | 'U') {
                self.at += 1;
                return u64::from_str_radix(&digits, 16)
                    .map_or_else(|_| bad(self, "uint"), |n| Ok(Token::Literal(Value::Uint(n))));
            }
            return i64::from_str_radix(&digits, 16)
                .map_or_else(|_| bad(self, "int"), |n| Ok(Token::Literal(Value::Int(n))));
        }
        let mut double = false;
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            double = true;
            self.at += 1;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        let sign = usize::from(matches!(self.peek(1), '+' | '-'));
        if matches!(self.peek(0), 'e' | 'E') && self.peek(1 + sign).is_ascii_digit() {
            double = true;
            self.at += 1 + sign;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        let text: String = self.chars[start..self.at].iter().collect();
        if double {
            let number = text.parse().ok().filter(|n: &f64| n.is_finite());
            return number.map_or_else(|| bad(self, "double"), |n| Ok(Token::Literal(Value::Double(n))));
        }
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            return text.parse().map_or_else(|_| bad(self, "uint"), |n| Ok(Token::Literal(Value::Uint(n))));
        }
        // The smallest number has no positive twin: the parser puts the sign before it.
        match text.parse::<u64>() {
            Ok(n) if n <= i64::MAX.unsigned_abs() => Ok(Token::Literal(Value::Int(n.cast_signed()))),
            Ok(n) if n == i64::MIN.unsigned_abs() => Ok(Token::Literal(Value::Int(i64::MIN))),
            _ => bad(self, "int"),
        }
    }

    fn string(&mut self, raw: bool, bytes: bool) -> Result<Token, Compile> {
        let (start, quote) = (self.at, self.peek(0));
        let long = self.peek(1) == quote && self.peek(2) == quote;
        let width = if long { 3 } else { 1 };
        self.at += width;
        let mut out: Vec<u8> = Vec::new();
        loop {
            if self.at >= self.chars.len() || (!long && self.peek(0) == '\n') {
                return self.error(start, &format!("token recognition error at: '{quote}'"));
            }
            if (0..width).all(|i| self.peek(i) == quote) {
                self.at += width;
                break;
            }
            let c = self.peek(0);
            self.at += 1;
            if c != '\\' || raw {
                out.extend(c.encode_utf8(&mut [0; 4]).bytes());
                continue;
            }
            self.escape(bytes, &mut out)?;
        }
        if bytes {
            return Ok(Token::Literal(Value::Bytes(Arc::from(out))));
        }
        Ok(Token::Literal(Value::from(String::from_utf8_lossy(&out).as_ref())))
    }

    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), Compile> {
        let at = self.at - 1;
        let c = self.peek(0);
        self.at += 1;
        let simple = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => c as u8,
            _ => 0,
        };
        if simple != 0 {
            out.push(simple);
            return Ok(());
        }
        let (length, radix, skip) = match c {
            'x' | 'X' => (2, 16, 0),
            'u' => (4, 16, 0),
            'U' => (8, 16, 0),
            '0'..='3' => (3, 8, 1),
            _ => return self.error(at, &format!("invalid escape '\\{c}'")),
        };
        let from = self.at - skip;
        let digits: String = self.chars.iter().skip(from).take(length).collect();
        self.at = from + length;
        let code = u32::from_str_radix(&digits, radix).ok().filter(|_| digits.chars().count() == length);
        match (code, bytes && length <= 3) {
            (Some(code), true) => {
                out.push(u8::try_from(code).unwrap_or(0));
                Ok(())
            }
            (Some(code), false) => match char::from_u32(code) {
                Some(c) => {
                    out.extend(c.encode_utf8(&mut [0; 4]).bytes());
                    Ok(())
                }
                None => self.error(at, "invalid unicode code point"),
            },
            (None, _) => self.error(at, "invalid escape"),
        }
    }
}
