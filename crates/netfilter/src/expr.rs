//! The expressions of a rule. Registers are numbered as in `nft --debug=netlink`: 1 to 4 are 16 bytes wide, 8 to 23
//! four bytes each (register 1 is 8 to 11); a concatenated key lies in consecutive four-byte registers from 1 on (1, 9, 10, 11).

use crate::attributes::{nest, put, put_text, put_u32};
use crate::batch::{Verdict, put_verdict};

/// One encoded expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expr(pub(crate) Vec<u8>);

/// Comparison operators.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Cmp {
    Eq = 0,
    Neq = 1,
}

/// Where a payload load counts its offset from.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Base {
    Network = 1,
    Transport = 2,
}

/// `meta` keys.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Meta {
    Mark = 3,
    Iifname = 6,
    Oifname = 7,
    L4proto = 16,
}

fn expr(name: &str, fill: impl FnOnce(&mut Vec<u8>)) -> Expr {
    let mut buffer = Vec::with_capacity(64);
    put_text(&mut buffer, 1, name);
    nest(&mut buffer, 2, fill);
    Expr(buffer)
}

fn data(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) {
    nest(buffer, kind, |b| put(b, 1, value));
}

/// Loads `length` bytes at `offset` of a header into a register.
pub fn payload(base: Base, offset: u32, length: u32, register: u32) -> Expr {
    expr("payload", |b| {
        put_u32(b, 1, register);
        put_u32(b, 2, base as u32);
        put_u32(b, 3, offset);
        put_u32(b, 4, length);
    })
}

/// The IPv4 source address.
pub fn source(register: u32) -> Expr {
    payload(Base::Network, 12, 4, register)
}

/// The IPv4 destination address.
pub fn destination(register: u32) -> Expr {
    payload(Base::Network, 16, 4, register)
}

/// The IPv4 protocol number.
pub fn protocol(register: u32) -> Expr {
    payload(Base::Network, 9, 1, register)
}

/// The TCP, UDP or SCTP destination port.
pub fn destination_port(register: u32) -> Expr {
    payload(Base::Transport, 2, 2, register)
}

/// Loads packet metadata.
pub fn meta(key: Meta, register: u32) -> Expr {
    expr("meta", |b| {
        put_u32(b, 2, key as u32);
        put_u32(b, 1, register);
    })
}

/// Stores a register into packet metadata.
pub fn set_meta(key: Meta, register: u32) -> Expr {
    expr("meta", |b| {
        put_u32(b, 2, key as u32);
        put_u32(b, 3, register);
    })
}

/// Conntrack state bits (`NFT_CT_STATE`): invalid 1, established 2, related 4, new 8.
pub fn conntrack_state(register: u32) -> Expr {
    expr("ct", |b| {
        put_u32(b, 2, 0);
        put_u32(b, 1, register);
    })
}

/// `register = (register & mask) ^ xor`.
pub fn bitwise(register: u32, mask: &[u8], xor: &[u8]) -> Expr {
    expr("bitwise", |b| {
        put_u32(b, 1, register);
        put_u32(b, 2, register);
        put_u32(b, 3, u32::try_from(mask.len()).unwrap_or(0));
        data(b, 4, mask);
        data(b, 5, xor);
    })
}

/// Goes on only if the register compares so.
pub fn cmp(operator: Cmp, register: u32, value: &[u8]) -> Expr {
    expr("cmp", |b| {
        put_u32(b, 1, register);
        put_u32(b, 2, operator as u32);
        data(b, 3, value);
    })
}

/// Goes on only if the key that starts at `register` is in the set.
pub fn lookup(set: &str, register: u32) -> Expr {
    expr("lookup", |b| {
        put_text(b, 1, set);
        put_u32(b, 2, register);
    })
}

/// Looks the key that starts at `register` up in a map, and puts the value into `to` (0: the verdict register).
pub fn map(set: &str, register: u32, to: u32) -> Expr {
    expr("lookup", |b| {
        put_text(b, 1, set);
        put_u32(b, 2, register);
        put_u32(b, 3, to);
    })
}

/// A random number below `modulus`.
pub fn random(modulus: u32, register: u32) -> Expr {
    expr("numgen", |b| {
        put_u32(b, 1, register);
        put_u32(b, 2, modulus);
        put_u32(b, 3, 1);
    })
}

/// A hash of `length` bytes at `from`, below `modulus`: the same sender meets the same number.
pub fn hash(from: u32, length: u32, modulus: u32, register: u32) -> Expr {
    expr("hash", |b| {
        put_u32(b, 1, from);
        put_u32(b, 2, register);
        put_u32(b, 3, length);
        put_u32(b, 4, modulus);
        put_u32(b, 5, 0x6e61_7661);
        put_u32(b, 7, 0);
    })
}

/// The type of the destination address as the routing table sees it (`RTN_LOCAL` is 2).
pub fn fib_destination_type(register: u32) -> Expr {
    expr("fib", |b| {
        put_u32(b, 1, register);
        put_u32(b, 2, 3);
        put_u32(b, 3, 1 << 1);
    })
}

/// Rewrites the destination to the address and port in these registers.
pub fn dnat(address: u32, port: u32) -> Expr {
    expr("nat", |b| {
        put_u32(b, 1, 1);
        put_u32(b, 2, libc::AF_INET.unsigned_abs());
        put_u32(b, 3, address);
        put_u32(b, 5, port);
        put_u32(b, 7, 1 << 1);
    })
}

/// Rewrites the source to the outgoing interface's address.
pub fn masquerade() -> Expr {
    expr("masq", |_| {})
}

/// Answers TCP with a reset.
pub fn reject_tcp() -> Expr {
    expr("reject", |b| {
        put_u32(b, 1, 1);
        put(b, 2, &[0]);
    })
}

/// Answers with ICMP port unreachable.
pub fn reject() -> Expr {
    expr("reject", |b| {
        put_u32(b, 1, 0);
        put(b, 2, &[3]);
    })
}

/// Loads a constant into a register.
pub fn load(value: &[u8], register: u32) -> Expr {
    expr("immediate", |b| {
        put_u32(b, 1, register);
        data(b, 2, value);
    })
}

/// Ends with a verdict.
pub fn verdict(verdict: &Verdict) -> Expr {
    expr("immediate", |b| {
        put_u32(b, 1, 0);
        nest(b, 2, |b| put_verdict(b, verdict));
    })
}
