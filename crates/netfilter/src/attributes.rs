//! Netlink attributes: type-length-value, padded to four bytes.

/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;

/// Appends attribute `kind` with these bytes.
pub(crate) fn put(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    buffer.extend_from_slice(&length.to_ne_bytes());
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(value);
    pad(buffer);
}

/// Appends a NUL-terminated string.
pub(crate) fn put_text(buffer: &mut Vec<u8>, kind: u16, text: &str) {
    let mut value = text.as_bytes().to_vec();
    value.push(0);
    put(buffer, kind, &value);
}

/// Appends a big-endian number, as nftables wants them.
pub(crate) fn put_u32(buffer: &mut Vec<u8>, kind: u16, value: u32) {
    put(buffer, kind, &value.to_be_bytes());
}

/// Appends an attribute whose content `fill` writes.
pub(crate) fn nest(buffer: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0, 0]);
    buffer.extend_from_slice(&(kind | NESTED).to_ne_bytes());
    fill(buffer);
    // An attribute's length has 16 bits; element lists are cut into messages long before (see `Batch`).
    let length = u16::try_from(buffer.len() - start).unwrap_or(u16::MAX);
    buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    pad(buffer);
}

fn pad(buffer: &mut Vec<u8>) {
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}
