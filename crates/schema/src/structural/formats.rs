//! Formats of strings that upstream's validator knows (`pkg/validation/strfmt`, `apiextensions/pkg/apiserver/validation/formats.go`).
//! Others are not checked.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine;
use regex::Regex;

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a constant, covered by a test")
}

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| regex($text));
    };
}

pattern!(
    HOSTNAME,
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z]){2,63}\.?)$"
);
pattern!(
    EMAIL,
    r#"^[^@\s<>"(),:;\[\]\\]+(?:\.[^@\s<>"(),:;\[\]\\]+)*@[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?)*$"#
);
pattern!(UUID, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$");
pattern!(UUID3, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$");
pattern!(UUID4, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$");
pattern!(UUID5, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$");
pattern!(OBJECT_ID, r"^[0-9a-fA-F]{24}$");
pattern!(
    MAC,
    r"(?i)^(?:[0-9a-f]{2}([:-]))(?:[0-9a-f]{2}[:-]){4}[0-9a-f]{2}$|(?i)^(?:[0-9a-f]{2}[:-]){7}[0-9a-f]{2}$|(?i)^(?:[0-9a-f]{4}\.){2,3}[0-9a-f]{4}$"
);
pattern!(SSN, r"^\d{3}[- ]?\d{2}[- ]?\d{4}$");
pattern!(HEX_COLOR, r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$");
pattern!(
    RGB_COLOR,
    r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$"
);
pattern!(DURATION, r"^[-+]?\s*((\d+\.?\d*|\.\d+)\s*([a-zµμ]+)?\s*)+$");
pattern!(DATE_TIME, r"(?i)^\d{4}-\d{2}-\d{2}t\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:z|[+-]\d{2}:\d{2})$");

const KNOWN: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// True for a format of texts that upstream knows.
pub fn is_known(format: &str) -> bool {
    KNOWN.contains(&format.replace('-', "").as_str())
}

/// True when the text has the format, or the format is not known.
pub fn fits(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "bsonobjectid" => OBJECT_ID.is_match(text),
        "uri" => is_uri(text),
        "email" => EMAIL.is_match(text),
        "hostname" => text.len() <= 255 && HOSTNAME.is_match(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => MAC.is_match(text),
        "uuid" => UUID.is_match(text),
        "uuid3" => UUID3.is_match(text),
        "uuid4" => UUID4.is_match(text),
        "uuid5" => UUID5.is_match(text),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_card(text),
        "ssn" => SSN.is_match(text),
        "hexcolor" => HEX_COLOR.is_match(text),
        "rgbcolor" => RGB_COLOR.is_match(text),
        "byte" => !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "datetime" => DATE_TIME.is_match(text) && text.to_uppercase().parse::<jiff::Timestamp>().is_ok(),
        "duration" => DURATION.is_match(text.trim()) && is_duration(text),
        "k8sshortname" => is_label(text) && text.len() <= 63,
        "k8slongname" => text.len() <= 253 && text.split('.').all(is_label),
        _ => true,
    }
}

fn is_label(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || c == '-')
}

fn is_uri(text: &str) -> bool {
    // A request URI: absolute, or a path.
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
            && rest.starts_with('/')
    })
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) || (bits.len() > 1 && bits.starts_with('0')) {
        return false;
    }
    let bits: u32 = bits.parse().unwrap_or(u32::MAX);
    (address.parse::<Ipv4Addr>().is_ok() && bits <= 32) || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
}

fn digits(text: &str) -> Option<Vec<u32>> {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_digit(10)).collect()
}

fn is_isbn10(text: &str) -> bool {
    let bare: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let value = |(i, c): (usize, &char)| match (c, i) {
        ('X', 9) => Some(10),
        (c, _) => c.to_digit(10),
    };
    let Some(digits) = bare.iter().enumerate().map(value).collect::<Option<Vec<u32>>>() else { return false };
    digits.len() == 10 && digits.iter().zip(1..).map(|(d, i)| d * i).sum::<u32>().is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let Some(digits) = digits(text) else { return false };
    let weighted = |(i, d): (usize, &u32)| if i % 2 == 0 { *d } else { 3 * d };
    digits.len() == 13 && digits.iter().enumerate().map(weighted).sum::<u32>().is_multiple_of(10)
}

fn is_card(text: &str) -> bool {
    let Some(digits) = digits(text) else { return false };
    let luhn = |(i, d): (usize, &u32)| match (i % 2, *d) {
        (0, d) => d,
        (_, d) if d > 4 => 2 * d - 9,
        (_, d) => 2 * d,
    };
    (13..=19).contains(&digits.len()) && digits.iter().rev().enumerate().map(luhn).sum::<u32>().is_multiple_of(10)
}

/// Go's durations (`1h30m`), and words that strfmt adds (`2 days`).
fn is_duration(text: &str) -> bool {
    const UNITS: [&str; 30] = [
        "ns",
        "nano",
        "nanos",
        "nanosecond",
        "nanoseconds",
        "us",
        "µs",
        "μs",
        "micro",
        "micros",
        "microsecond",
        "microseconds",
        "ms",
        "milli",
        "millis",
        "millisecond",
        "milliseconds",
        "s",
        "sec",
        "secs",
        "second",
        "seconds",
        "m",
        "min",
        "mins",
        "minute",
        "minutes",
        "h",
        "hr",
        "hour",
    ];
    const LONG: [&str; 7] = ["hours", "hrs", "d", "day", "days", "w", "week"];
    let text = text.trim().trim_start_matches(['-', '+']);
    if text == "0" {
        return true;
    }
    let unit = |word: &str| UNITS.contains(&word) || LONG.contains(&word) || word == "weeks" || word == "wk";
    let words = text.split(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').filter(|w| !w.is_empty());
    let mut count = 0;
    words.inspect(|_| count += 1).all(unit) && count > 0
}
