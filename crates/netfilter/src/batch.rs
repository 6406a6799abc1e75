//! A transaction: messages between a batch begin and a batch end, sent at once, applied whole or not at all.

use std::io;

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use crate::attributes::{nest, put, put_text, put_u32};
use crate::expr::Expr;

const NETLINK_NETFILTER: isize = 12;
const SUBSYS_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_APPEND: u16 = 0x800;
const NLM_F_CREATE: u16 = 0x400;
/// Elements per message: an attribute holds at most 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 400;
const NFPROTO_IPV4: u8 = 2;

/// Why a transaction did not happen.
#[derive(Debug, thiserror::Error)]
pub enum NetfilterError {
    /// The netlink socket failed.
    #[error("cannot talk to nftables: {operation}")]
    Socket {
        /// What was attempted.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a message, and so the whole batch.
    #[error("nftables refused to {message}")]
    Refused {
        /// What the message was for.
        message: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

/// Where a base chain hooks into the packet path.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// Before routing of received packets.
    Prerouting,
    /// Packets for this host.
    Input,
    /// Packets that are passed on.
    Forward,
    /// Packets that this host sends.
    Output,
    /// Before packets leave.
    Postrouting,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// On to the next hook.
    Accept,
    /// Gone.
    Drop,
    /// Evaluate that chain, then come back.
    Jump(String),
    /// Evaluate that chain, do not come back.
    Goto(String),
}

/// A set or a map.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// nft's type numbers of the key's parts (7 ipv4_addr, 12 inet_proto, 13 inet_service, 19 mark): for `nft list` only.
    pub key_types: &'a [u32],
    /// Bytes of the key: four per part.
    pub key_length: u32,
    /// Value of a map: nft's type numbers and bytes, or `Verdicts`.
    pub value: Value<'a>,
}

/// What a set's elements map to.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Nothing: a set.
    None,
    /// A verdict.
    Verdicts,
    /// Bytes: nft's type numbers and the length.
    Bytes(&'a [u32], u32),
}

/// Element of a set or map.
#[derive(Clone, Copy, Debug)]
pub enum Element<'a> {
    /// Key of a set.
    Key(&'a [u8]),
    /// Key and verdict.
    Verdict(&'a [u8], &'a Verdict),
    /// Key and value bytes.
    Bytes(&'a [u8], &'a [u8]),
}

/// Builds one transaction on the IPv4 table of that name.
pub struct Batch {
    table: String,
    buffer: Vec<u8>,
    sequence: u32,
    /// What each message does, for errors; index = sequence - 1.
    notes: Vec<String>,
}

fn concatenated(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, one| (all << 6) | one)
}

pub(crate) fn put_verdict(buffer: &mut Vec<u8>, verdict: &Verdict) {
    nest(buffer, 2, |b| {
        let (code, chain) = match verdict {
            Verdict::Accept => (1, None),
            Verdict::Drop => (0, None),
            Verdict::Jump(chain) => (-3i32, Some(chain)),
            Verdict::Goto(chain) => (-4i32, Some(chain)),
        };
        put(b, 1, &code.to_be_bytes());
        if let Some(chain) = chain {
            put_text(b, 2, chain);
        }
    });
}

impl Batch {
    /// An empty transaction on `table`.
    pub fn new(table: &str) -> Self {
        let mut batch = Self { table: table.into(), buffer: Vec::with_capacity(4096), sequence: 0, notes: Vec::new() };
        batch.frame(BATCH_BEGIN, 0, |header| header.extend_from_slice(&[0, 0, 0, 10]));
        batch
    }

    fn frame(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.buffer.extend_from_slice(&self.sequence.to_ne_bytes());
        self.buffer.extend_from_slice(&[0; 4]);
        fill(&mut self.buffer);
        let length = u32::try_from(self.buffer.len() - start).unwrap_or(u32::MAX);
        self.buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn message(&mut self, kind: u16, flags: u16, note: String, fill: impl FnOnce(&mut Vec<u8>)) {
        self.sequence += 1;
        self.notes.push(note);
        self.frame((SUBSYS_NFTABLES << 8) | kind, flags | NLM_F_ACK, |b| {
            b.extend_from_slice(&[NFPROTO_IPV4, 0, 0, 0]);
            fill(b);
        });
    }

    /// True when nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// Creates the table, or leaves it as it is.
    pub fn add_table(&mut self) {
        let table = self.table.clone();
        self.message(NEWTABLE, NLM_F_CREATE, format!("add table {table}"), |b| {
            put_text(b, 1, &table);
            put_u32(b, 2, 0);
        });
    }

    /// Removes the table with all that is in it; it must exist (add it before, to be sure).
    pub fn delete_table(&mut self) {
        let table = self.table.clone();
        self.message(DELTABLE, 0, format!("delete table {table}"), |b| put_text(b, 1, &table));
    }

    /// Adds a chain that is only jumped to.
    pub fn add_chain(&mut self, name: &str) {
        let table = self.table.clone();
        self.message(NEWCHAIN, NLM_F_CREATE, format!("add chain {name}"), |b| {
            put_text(b, 1, &table);
            put_text(b, 3, name);
        });
    }

    /// Adds a base chain. `kind` is `nat` or `filter`.
    pub fn add_base_chain(&mut self, name: &str, kind: &str, hook: Hook, priority: i32) {
        let table = self.table.clone();
        self.message(NEWCHAIN, NLM_F_CREATE, format!("add base chain {name}"), |b| {
            put_text(b, 1, &table);
            put_text(b, 3, name);
            put_text(b, 7, kind);
            put_u32(b, 5, 1);
            nest(b, 4, |b| {
                put_u32(b, 1, hook as u32);
                put(b, 2, &priority.to_be_bytes());
            });
        });
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, expressions: &[Expr]) {
        let table = self.table.clone();
        self.message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, format!("add a rule to {chain}"), |b| {
            put_text(b, 1, &table);
            put_text(b, 2, chain);
            nest(b, 4, |b| {
                for expression in expressions {
                    put(b, 1 | 0x8000, &expression.0);
                }
            });
        });
    }

    /// Adds a set or map.
    pub fn add_set(&mut self, set: &Set<'_>) {
        let table = self.table.clone();
        let id = self.sequence + 1;
        self.message(NEWSET, NLM_F_CREATE, format!("add set {}", set.name), |b| {
            put_text(b, 1, &table);
            put_text(b, 2, set.name);
            put_u32(b, 3, if matches!(set.value, Value::None) { 0 } else { 8 });
            put_u32(b, 4, concatenated(set.key_types));
            put_u32(b, 5, set.key_length);
            match set.value {
                Value::None => {}
                Value::Verdicts => {
                    put_u32(b, 6, 0xffff_ff00);
                    put_u32(b, 7, 0);
                }
                Value::Bytes(types, length) => {
                    put_u32(b, 6, concatenated(types));
                    put_u32(b, 7, length);
                }
            }
            put_u32(b, 10, id);
        });
    }

    /// Adds elements to a set or map.
    pub fn add_elements(&mut self, set: &str, elements: &[Element<'_>]) {
        self.elements(NEWSETELEM, NLM_F_CREATE, "add elements to", set, elements);
    }

    /// Removes elements (by key); each must exist.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element<'_>]) {
        self.elements(DELSETELEM, 0, "delete elements of", set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, verb: &str, set: &str, elements: &[Element<'_>]) {
        let table = self.table.clone();
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.message(kind, flags, format!("{verb} {set}"), |b| {
                put_text(b, 1, &table);
                put_text(b, 2, set);
                nest(b, 3, |b| {
                    for element in chunk {
                        nest(b, 1, |b| put_element(b, element));
                    }
                });
            });
        }
    }

    /// Sends the transaction and waits for the kernel's word on every message. Blocks for milliseconds.
    pub fn commit(mut self) -> Result<(), NetfilterError> {
        if self.is_empty() {
            return Ok(());
        }
        let failed = |operation| move |source| NetfilterError::Socket { operation, source };
        self.sequence += 1;
        self.frame(BATCH_END, 0, |header| header.extend_from_slice(&[0, 0, 0, 10]));
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed("open a netlink socket"))?;
        socket.bind_auto().map_err(failed("bind a netlink socket"))?;
        // Best effort: without the capability the default buffers serve batches of ordinary size.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &(self.buffer.len() + 65_536));
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &(self.notes.len() * 1024 + 65_536));
        socket.send_to(&self.buffer, &SocketAddr::new(0, 0), 0).map_err(failed("send a batch"))?;
        self.read_replies(&socket)
    }

    /// Reads until every message was acknowledged, or one was refused.
    fn read_replies(&self, socket: &Socket) -> Result<(), NetfilterError> {
        let last = u32::try_from(self.notes.len()).unwrap_or(u32::MAX);
        let mut reply = vec![0u8; 65_536];
        loop {
            let mut space = &mut reply[..];
            let (received, _) = socket
                .recv_from(&mut space, 0)
                .map_err(|source| NetfilterError::Socket { operation: "read the reply to a batch", source })?;
            let mut at = 0;
            while at + 20 <= received {
                let number = |from: usize| {
                    let mut four = [0; 4];
                    four.copy_from_slice(&reply[at + from..at + from + 4]);
                    u32::from_ne_bytes(four)
                };
                let (length, sequence, code) = (number(0) as usize, number(8), number(16).cast_signed());
                if code != 0 {
                    let at = usize::try_from(sequence).unwrap_or(0).wrapping_sub(1);
                    let message = self.notes.get(at).cloned().unwrap_or_else(|| "apply the batch".into());
                    return Err(NetfilterError::Refused { message, source: io::Error::from_raw_os_error(-code) });
                }
                if sequence == last {
                    return Ok(());
                }
                at += length.max(20).next_multiple_of(4);
            }
        }
    }
}

fn put_element(buffer: &mut Vec<u8>, element: &Element<'_>) {
    let (Element::Key(key) | Element::Verdict(key, _) | Element::Bytes(key, _)) = element;
    nest(buffer, 1, |b| put(b, 1, key));
    match element {
        Element::Key(_) => {}
        Element::Verdict(_, verdict) => nest(buffer, 2, |b| put_verdict(b, verdict)),
        Element::Bytes(_, value) => nest(buffer, 2, |b| put(b, 1, value)),
    }
}
