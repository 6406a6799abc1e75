//! Percent-encoding, as in URLs.

/// The bytes that an encoded text stands for; what is no code stays as it is.
pub fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'%').then(|| tail.first_chunk::<2>()).flatten();
        match code.and_then(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

/// A name or value of a query: a plus is a space, and what is no text is replaced.
pub fn form_decoded(text: &str) -> String {
    String::from_utf8_lossy(&decoded(text.replace('+', " ").as_bytes())).into_owned()
}

/// Letters, digits and what is `plain` stay.
pub fn encoded(text: &str, plain: &[u8]) -> String {
    let stays = |b: u8| b.is_ascii_alphanumeric() || plain.contains(&b);
    text.bytes().map(|b| if stays(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        assert_eq!(form_decoded("100%25+%c3%a4%20%zz%+f%"), "100% ä %zz% f%");
        assert_eq!(decoded(b"a+b%00%ff"), b"a+b\0\xff");
        assert_eq!(encoded("a b/ä~", b"~"), "a%20b%2F%C3%A4~");
    }
}
