//! Enough of DER (X.690) to write a certificate.

use time::OffsetDateTime;

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;

/// A value with its tag and length.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..128 => out.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let bytes: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
            out.push(0x80 | bytes.len() as u8);
            out.extend(bytes);
        }
    }
    out.extend(content);
    out
}

/// A value made of others.
pub(crate) fn compound(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    value(tag, &parts.concat())
}

/// A string of whole bytes, or of fewer bits than that.
pub(crate) fn bits(bytes: &[u8], unused: u8) -> Vec<u8> {
    value(BIT_STRING, &[&[unused], bytes].concat())
}

/// A moment: two digits for the year until 2049, as RFC 5280 has it.
pub(crate) fn time(at: OffsetDateTime) -> Vec<u8> {
    let rest =
        format!("{:02}{:02}{:02}{:02}{:02}Z", u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second());
    match at.year() {
        year @ 1950..=2049 => value(0x17, format!("{:02}{rest}", year % 100).as_bytes()),
        year => value(0x18, format!("{year:04}{rest}").as_bytes()),
    }
}

/// An extension of a certificate.
pub(crate) fn extension(id: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let mut parts = vec![value(OBJECT_ID, id)];
    if critical {
        parts.push(value(BOOLEAN, &[0xff]));
    }
    parts.push(value(OCTET_STRING, content));
    compound(SEQUENCE, &parts)
}
