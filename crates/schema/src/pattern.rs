//! Regular expressions as Go's `regexp` reads them: what is none is refused in Go's words, what is one is written anew for the `regex`
//! crate. The two differ in what they take (`a**`, `\Q`, `{,2}`, counts above 1000) and in what `\d`, `\s`, `\w` and `\b` are: ASCII in Go.

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled pattern may take.
const MOST_BYTES: usize = 8 << 20;
/// Groups within groups.
const MOST_DEPTH: usize = 1000;
/// What counts multiply to, one within the other.
const MOST_REPEATS: i64 = 1000;

/// Compiles a pattern of Go's. The error is Go's, without `error parsing regexp: `.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern)?;
    let depth = u32::try_from(MOST_DEPTH).unwrap_or(u32::MAX) * 2;
    let built = RegexBuilder::new(&translated).size_limit(MOST_BYTES).nest_limit(depth).build();
    built.map_err(|_| format!("expression too large: `{pattern}`"))
}

/// Why a text is no pattern of Go's. One that is, and too large for us, passes.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    translate(pattern).map(drop)
}

/// Writes a pattern of Go's for the `regex` crate.
fn translate(pattern: &str) -> Result<String, String> {
    let mut parser = Parser { rest: pattern, out: String::new(), last: None, groups: Vec::new(), inner: Vec::new() };
    parser.all().map_err(|(code, expression)| format!("{code}: `{expression}`"))?;
    match parser.groups.is_empty() {
        true => Ok(parser.out),
        false => Err(format!("missing closing ): `{pattern}`")),
    }
}

/// What is wrong, and the text that it is about.
type Wrong<'p> = (&'static str, &'p str);
type Outcome<'p, T = ()> = Result<T, Wrong<'p>>;

const RANGE: &str = "invalid character class range";
const ESCAPE: &str = "invalid escape sequence";
const NO_ARGUMENT: &str = "missing argument to repetition operator";
const CAPTURE: &str = "invalid named capture";
const COUNT: &str = "invalid repeat count";

/// A counted repetition and those within it.
struct Repeat {
    count: i64,
    inner: Vec<Repeat>,
}

/// True when the counts are within what is allowed together, divided as Go divides.
fn is_bounded(repeats: &[Repeat], most: i64) -> bool {
    repeats.iter().all(|repeat| match repeat.count {
        0 => true,
        count if count > most => false,
        count => is_bounded(&repeat.inner, most / count),
    })
}

/// What can be repeated: where its text ends, and which repetitions it had in it from where.
#[derive(Clone, Copy)]
struct Last {
    end: usize,
    inner: usize,
}

struct Parser<'p> {
    rest: &'p str,
    out: String,
    last: Option<Last>,
    /// How many repetitions there were before each open group.
    groups: Vec<usize>,
    /// Of the groups that are open, in order.
    inner: Vec<Repeat>,
}

impl<'p> Parser<'p> {
    fn all(&mut self) -> Outcome<'p> {
        let whole = self.rest;
        let mut before = "";
        while let Some(first) = self.rest.chars().next() {
            let (from, mut repeat) = (self.rest, "");
            match first {
                '(' if from.starts_with("(?") => self.flags()?,
                '(' => self.open("(", 1),
                '|' => {
                    self.out.push('|');
                    self.rest = &from[1..];
                    self.last = None;
                }
                ')' => self.close(whole)?,
                '^' | '$' | '.' => self.item(&from[..1], &from[1..]),
                '[' => self.class()?,
                '*' | '+' | '?' => {
                    self.repeat(from, &from[1..], 0, before)?;
                    repeat = from;
                }
                '{' => match counts(from) {
                    Some((least, most, after)) => {
                        if !(0..=MOST_REPEATS).contains(&least) || most > MOST_REPEATS || (most >= 0 && least > most) {
                            return Err((COUNT, upto(from, after)));
                        }
                        let count = if most < 0 { least } else { most };
                        self.repeat(from, after, if least >= 2 || most >= 2 { count } else { 0 }, before)?;
                        repeat = from;
                    }
                    None => self.literal('{', &from[1..]),
                },
                '\\' => self.escape()?,
                other => self.literal(other, &from[other.len_utf8()..]),
            }
            before = repeat;
            if self.groups.len() > MOST_DEPTH {
                return Err(("expression nests too deeply", whole));
            }
        }
        Ok(())
    }

    /// Something that can be repeated.
    fn item(&mut self, text: &str, rest: &'p str) {
        self.out.push_str(text);
        self.rest = rest;
        self.last = Some(Last { end: self.out.len(), inner: self.inner.len() });
    }

    fn literal(&mut self, c: char, rest: &'p str) {
        self.item(&regex::escape(c.encode_utf8(&mut [0; 4])), rest);
    }

    fn open(&mut self, text: &str, read: usize) {
        self.out.push_str(text);
        self.rest = &self.rest[read..];
        self.groups.push(self.inner.len());
        self.last = None;
    }

    fn close(&mut self, whole: &'p str) -> Outcome<'p> {
        let inner = self.groups.pop().ok_or(("unexpected )", whole))?;
        self.item(")", &self.rest[1..]);
        self.last = Some(Last { end: self.out.len(), inner });
        Ok(())
    }

    /// Repeats what is last. `counted`: how often, where that counts; `before`: where a repetition just before this one began.
    fn repeat(&mut self, from: &'p str, after: &'p str, counted: i64, before: &'p str) -> Outcome<'p> {
        let rest = after.strip_prefix('?').unwrap_or(after);
        if !before.is_empty() {
            return Err(("invalid nested repetition operator", upto(before, rest)));
        }
        let Some(last) = self.last else { return Err((NO_ARGUMENT, upto(from, rest))) };
        self.out.insert_str(last.end, upto(from, rest));
        if counted > 0 {
            let inner = self.inner.split_off(last.inner.min(self.inner.len()));
            let repeat = [Repeat { count: counted, inner }];
            if !is_bounded(&repeat, MOST_REPEATS) {
                return Err((COUNT, upto(from, rest)));
            }
            self.inner.extend(repeat);
        }
        self.rest = rest;
        Ok(())
    }

    /// `(?P<name>`, `(?<name>`, `(?i)`, `(?i-s:`.
    fn flags(&mut self) -> Outcome<'p> {
        let from = self.rest;
        let name = from.strip_prefix("(?P<").or(from.strip_prefix("(?<")).filter(|name| !name.is_empty());
        if let Some(name) = name {
            let end = name.find('>').ok_or((CAPTURE, from))?;
            let read = from.len() - name.len() + end + 1;
            let good = end > 0 && name[..end].chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
            if !good {
                return Err((CAPTURE, &from[..read]));
            }
            self.open("(", read);
            return Ok(());
        }
        let (mut off, mut saw) = (false, false);
        for (at, c) in from.char_indices().skip(2) {
            match c {
                'i' | 'm' | 's' | 'U' => saw = true,
                '-' if !off => (off, saw) = (true, false),
                ':' | ')' if !off || saw => {
                    match c {
                        ':' => self.open(&from[..=at], at + 1),
                        _ => {
                            self.out.push_str(if saw { &from[..=at] } else { "" });
                            self.rest = &from[at + 1..];
                        }
                    }
                    return Ok(());
                }
                other => return Err(("invalid or unsupported Perl syntax", &from[..at + other.len_utf8()])),
            }
        }
        Err(("invalid or unsupported Perl syntax", from))
    }

    fn escape(&mut self) -> Outcome<'p> {
        let from = self.rest;
        match from.as_bytes().get(1) {
            Some(b'A' | b'z') => self.item(&from[..2], &from[2..]),
            Some(b'b') => self.item(r"(?-u:\b)", &from[2..]),
            Some(b'B') => self.item(r"\B", &from[2..]),
            Some(b'C') => return Err((ESCAPE, &from[..2])),
            Some(b'Q') => {
                let (literal, rest) = from[2..].split_once(r"\E").unwrap_or((&from[2..], ""));
                literal.chars().for_each(|c| self.literal(c, rest));
                self.rest = rest;
            }
            _ => match named(from)?.or(perl(from).map(|(class, rest)| (class.to_owned(), rest))) {
                Some((class, rest)) => self.item(&class, rest),
                None => {
                    let (c, rest) = escaped(from)?;
                    match char::from_u32(c) {
                        Some(c) => self.literal(c, rest),
                        // Half of a pair, which no text has.
                        None => self.item(r"[^\s\S]", rest),
                    }
                }
            },
        }
        Ok(())
    }

    fn class(&mut self) -> Outcome<'p> {
        let whole = self.rest;
        let mut rest = &whole[1..];
        let mut class = String::from("[");
        if let Some(after) = rest.strip_prefix('^') {
            class.push('^');
            rest = after;
        }
        let mut first = true;
        while first || !rest.starts_with(']') {
            first = false;
            if let Some((posix, after)) = posix(rest)? {
                class.push_str(posix);
                rest = after;
                continue;
            }
            if let Some((inner, after)) = named(rest)?.or(perl(rest).map(|(class, rest)| (class.to_owned(), rest))) {
                class.push_str(&inner);
                rest = after;
                continue;
            }
            let from = rest;
            let (low, after) = class_char(rest, whole)?;
            (rest, class) = (after, class);
            let mut high = low;
            if rest.len() >= 2 && rest.starts_with('-') && !rest.starts_with("-]") {
                (high, rest) = class_char(&rest[1..], whole)?;
                if high < low {
                    return Err((RANGE, upto(from, rest)));
                }
            }
            // Halves of pairs are in no text: a range goes around them.
            let (low, high) = (if char::from_u32(low).is_some() { low } else { 0xe000 }, high);
            let high = if char::from_u32(high).is_some() { high } else { 0xd7ff };
            if low <= high {
                class.push_str(&format!(r"\x{{{low:x}}}-\x{{{high:x}}}"));
            }
        }
        class.push(']');
        self.item(&class, &rest[1..]);
        Ok(())
    }
}

/// The text from one place to a later one.
fn upto<'p>(from: &'p str, to: &str) -> &'p str {
    &from[..from.len() - to.len()]
}

/// `{2}`, `{2,}`, `{2,5}`: -1 for no bound; a least of -1 is one that is too large.
fn counts(text: &str) -> Option<(i64, i64, &str)> {
    let (least, rest) = number(text.strip_prefix('{')?)?;
    let (least, most, rest) = match rest.strip_prefix(',') {
        None => (least, least, rest),
        Some(rest) if rest.starts_with('}') => (least, -1, rest),
        Some(rest) => {
            let (most, rest) = number(rest)?;
            (if most < 0 { -1 } else { least }, most, rest)
        }
    };
    Some((least, most, rest.strip_prefix('}')?))
}

fn number(text: &str) -> Option<(i64, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(end);
    let good = !digits.is_empty() && (digits.len() == 1 || !digits.starts_with('0'));
    good.then(|| (digits.parse().ok().filter(|n| *n < 100_000_000).unwrap_or(-1), rest))
}

/// `\d` and the like, which are ASCII.
fn perl(text: &str) -> Option<(&'static str, &str)> {
    let class = match text.get(..2)? {
        r"\d" => "[0-9]",
        r"\D" => "[^0-9]",
        r"\s" => r"[\t\n\f\r ]",
        r"\S" => r"[^\t\n\f\r ]",
        r"\w" => "[0-9A-Za-z_]",
        r"\W" => "[^0-9A-Za-z_]",
        _ => return None,
    };
    Some((class, &text[2..]))
}

/// `\pN`, `\P{Greek}`, `\p{^Greek}`.
fn named(text: &str) -> Outcome<'_, Option<(String, &str)>> {
    let Some(after) = text.strip_prefix(r"\p").or(text.strip_prefix(r"\P")) else { return Ok(None) };
    let (name, rest) = match after.strip_prefix('{') {
        Some(inner) => {
            let end = inner.find('}').ok_or((RANGE, text))?;
            (&inner[..end], &inner[end + 1..])
        }
        None => after.split_at(after.chars().next().map_or(0, char::len_utf8)),
    };
    let mut outside = text.starts_with(r"\P");
    let plain = name.strip_prefix('^').unwrap_or(name);
    outside ^= plain.len() != name.len();
    let class = format!(r"\{}{{{plain}}}", if outside { 'P' } else { 'p' });
    let known = plain.bytes().all(|b| b.is_ascii_alphanumeric() || b"_- ".contains(&b)) && Regex::new(&class).is_ok();
    if known { Ok(Some((class, rest))) } else { Err((RANGE, upto(text, rest))) }
}

/// `[:alpha:]`, `[:^alpha:]` within a class.
fn posix(text: &str) -> Outcome<'_, Option<(&str, &str)>> {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
        "word", "xdigit",
    ];
    let Some((name, rest)) = text.strip_prefix("[:").and_then(|inner| inner.split_once(":]")) else { return Ok(None) };
    let all = upto(text, rest);
    let known = NAMES.contains(&name.strip_prefix('^').unwrap_or(name));
    if known { Ok(Some((all, rest))) } else { Err((RANGE, all)) }
}

fn class_char<'p>(text: &'p str, whole: &'p str) -> Outcome<'p, (u32, &'p str)> {
    match text.chars().next() {
        None => Err(("missing closing ]", whole)),
        Some('\\') => escaped(text),
        Some(c) => Ok((u32::from(c), &text[c.len_utf8()..])),
    }
}

/// A single character's escape.
fn escaped(text: &str) -> Outcome<'_, (u32, &str)> {
    let mut rest = text[1..].chars();
    let Some(c) = rest.next() else { return Err(("trailing backslash at end of expression", "")) };
    let octal = |rest: &str| rest.starts_with(|c| ('0'..='7').contains(&c));
    let found = match c {
        '1'..='7' if !octal(rest.as_str()) => None,
        '0'..='7' => {
            let mut value = u32::from(c) - u32::from('0');
            for _ in 0..2 {
                if octal(rest.as_str()) {
                    value = value * 8 + rest.next().and_then(|c| c.to_digit(8)).unwrap_or(0);
                }
            }
            Some(value)
        }
        'x' => hexadecimal(&mut rest),
        'a' => Some(7),
        'f' => Some(12),
        'n' => Some(10),
        'r' => Some(13),
        't' => Some(9),
        'v' => Some(11),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
        _ => None,
    };
    let rest = rest.as_str();
    found.map(|c| (c, rest)).ok_or((ESCAPE, upto(text, rest)))
}

/// `41` or `{1F600}`.
fn hexadecimal(rest: &mut std::str::Chars<'_>) -> Option<u32> {
    let first = rest.next()?;
    if first != '{' {
        // As Go, which has read both before it judges.
        let second = rest.next();
        return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
    }
    let (mut value, mut digits) = (0, 0);
    loop {
        match rest.next()? {
            '}' if digits > 0 => return Some(value),
            c => value = value * 16 + c.to_digit(16)?,
        }
        if value > 0x0010_ffff {
            return None;
        }
        digits += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_refused_in_gos_words() {
        let check = |pattern: &str, wanted: &str| {
            assert_eq!(super::check(pattern).unwrap_err(), wanted, "{pattern}");
        };
        assert_eq!(super::check(r"\pL{1000}"), Ok(()));
        check("a**", "invalid nested repetition operator: `**`");
        check("a{2}{3}", "invalid nested repetition operator: `{2}{3}`");
        check("a{2,4294967296}", "invalid repeat count: `{2,4294967296}`");
        check("a+?*", "invalid nested repetition operator: `+?*`");
        check("*", "missing argument to repetition operator: `*`");
        check("(|+)", "missing argument to repetition operator: `+`");
        check("a{2,1}", "invalid repeat count: `{2,1}`");
        check("a{1001}", "invalid repeat count: `{1001}`");
        check("((a{100}){100}){100}", "invalid repeat count: `{100}`");
        check("(a", "missing closing ): `(a`");
        check("a)b", "unexpected ): `a)b`");
        check("[a", "missing closing ]: `[a`");
        check("[z-a]", "invalid character class range: `z-a`");
        check("[[:foo:]]", "invalid character class range: `[:foo:]`");
        check(r"\p{Foo}", r"invalid character class range: `\p{Foo}`");
        check(r"[a-\d]", r"invalid escape sequence: `\d`");
        check(r"a\", "trailing backslash at end of expression: ``");
        check(r"\8", r"invalid escape sequence: `\8`");
        check(r"\x{110000}", r"invalid escape sequence: `\x{110000`");
        check("(?!a)", "invalid or unsupported Perl syntax: `(?!`");
        check("(?P<x", "invalid named capture: `(?P<x`");
        check("(?P<x y>a)", "invalid named capture: `(?P<x y>`");
        check(&"(".repeat(2000), &format!("expression nests too deeply: `{}`", "(".repeat(2000)));
    }

    #[test]
    fn patterns_mean_what_they_do_in_go() {
        for text in ["a*?b+?", "[*+]*", "[]*+]+", "(?i:a)*", r"\**", "a{2,3}?", r"\Q**[\E*", r"\\Q*", r"^\Q[a]\E+$"] {
            assert!(compile(text).is_ok(), "{text}");
        }
        let check = |pattern: &str, yes: &[&str], no: &[&str]| {
            let regex = compile(pattern).unwrap();
            yes.iter().for_each(|text| assert!(regex.is_match(text), "{pattern} matches {text}"));
            no.iter().for_each(|text| assert!(!regex.is_match(text), "{pattern} does not match {text}"));
        };
        check(r"^\d+$", &["12"], &["٣", "1\n"]);
        check(r"^[\w.-]+$", &["a_b.c-d"], &["ä", ""]);
        check(r"^\S\s$", &["ä "], &["a\u{a0}", "a\u{b}"]);
        check(r"^a{,2}$", &["a{,2}"], &["aa"]);
        check(r"^\Qa.b*\E*$", &["a.b", "a.b**"], &["axb"]);
        check(r"^[]a-]+$", &["]a-"], &["b"]);
        check(r"^[^[:alpha:]\d]$", &["-", "ä"], &["a", "1"]);
        check(r"^a(?i)*B$", &["aaB", "b"], &["Ab"]);
        check(r"^(?P<1>x|y)?[&&a~~]\_$", &["x&_", "a_", "~_"], &["b_"]);
        check(r"^(?:)*()\x41\101\pL[\p{^Greek}]$", &["AAßa"], &["AAßα"]);
        check(r"\bk8s\b", &["äk8s ö"], &["ak8s"]);
        check(r"^(a{2,3}?){2}#$", &["aaaaa#"], &["aaa#"]);
    }
}
