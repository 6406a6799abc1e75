//! How large values of a schema can be, for estimates of what expressions cost.

use std::collections::BTreeMap;

use schema::structural::{Kind, META_FIELDS, Node};

use crate::names::escape;

/// Upstream's limit of a request; nothing of it is larger.
const MOST_REQUEST: u64 = 3 * 1024 * 1024;
/// JSON of a date, and of the longest time or duration.
const DATE: u64 = 12;
const MOST_TIME: u64 = 32;

/// The sizes of a value: of text its bytes, of lists and maps their entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The largest.
    pub(crate) most: u64,
    /// The least that it takes in JSON.
    pub(crate) least: u64,
    pub(crate) fields: BTreeMap<String, Sizes>,
    pub(crate) element: Option<Box<Sizes>>,
    pub(crate) is_map: bool,
    /// Of a map whose keys are as long as this; otherwise nothing is known of them.
    pub(crate) key: Option<Box<Sizes>>,
    /// Of a map whose entries are known by fields, too.
    pub(crate) takes_fields: bool,
}

impl Sizes {
    /// Of what has none.
    pub(crate) const NOTHING: Self = Self {
        most: 0,
        least: 0,
        fields: BTreeMap::new(),
        element: None,
        is_map: false,
        key: None,
        takes_fields: false,
    };

    pub(crate) fn simple(most: u64, least: u64) -> Self {
        Self { most, least, ..Self::default() }
    }

    /// How many such values fit into a request: how often a rule of an unbounded list's items may run.
    pub fn most_in_a_request(&self) -> u64 {
        MOST_REQUEST / (self.least + 1)
    }
}

/// The sizes that a schema allows; `None` for what expressions cannot see. `root`: of a whole object.
pub fn sizes_of(node: &Node, root: bool) -> Option<Sizes> {
    let limits = &node.limits;
    if node.int_or_string {
        return Some(Sizes::simple(limits.max_length.map_or(MOST_REQUEST - 2, |n| n.saturating_mul(4)), 1));
    }
    match node.kind? {
        Kind::Boolean => Some(Sizes::simple(0, 4)),
        Kind::Integer | Kind::Number => Some(Sizes::simple(0, 1)),
        Kind::String => Some(text(node)),
        Kind::Array => {
            let items = node.items.as_deref()?;
            let item = sizes_of(items, items.embedded)?;
            let most = limits.max_items.unwrap_or((MOST_REQUEST - 2) / (item.least + 1));
            Some(Sizes { element: Some(Box::new(item)), ..Sizes::simple(most, 2) })
        }
        Kind::Object => match node.entry() {
            Some(entry) => {
                let value = sizes_of(entry, entry.embedded)?;
                let most = limits.max_properties.unwrap_or((MOST_REQUEST - 2) / (value.least + 6));
                Some(Sizes { element: Some(Box::new(value)), is_map: true, ..Sizes::simple(most, 2) })
            }
            None => Some(object(node, root)),
        },
    }
}

fn text(node: &Node) -> Sizes {
    let limits = &node.limits;
    match limits.format.as_deref() {
        Some("byte") => Sizes::simple(limits.max_length.unwrap_or(MOST_REQUEST - 2), 2),
        Some("duration") => Sizes::simple(MOST_TIME, 3),
        Some("date") => Sizes::simple(DATE, DATE),
        Some("date-time") => Sizes::simple(MOST_TIME, 21),
        _ => {
            let longest = limits.allowed.iter().filter_map(|v| v.as_str()).map(str::len).max();
            let most = match (limits.max_length, longest) {
                // A letter may take four bytes.
                (Some(letters), _) => letters.saturating_mul(4),
                (None, Some(longest)) => longest as u64,
                (None, None) if !limits.allowed.is_empty() => 0,
                (None, None) => MOST_REQUEST - 2,
            };
            Sizes::simple(most, 2)
        }
    }
}

fn object(node: &Node, root: bool) -> Sizes {
    let resource = root || node.embedded;
    let mut sizes = Sizes::simple(0, 2);
    for (name, below) in &node.properties {
        if resource && META_FIELDS.contains(&name.as_str()) {
            continue;
        }
        let Some(field) = sizes_of(below, below.embedded) else { continue };
        if below.default.is_none() && node.limits.required.contains(name) {
            sizes.least += name.len() as u64 + field.least + 4;
        }
        sizes.fields.extend(escape(name).map(|name| (name, field)));
    }
    if resource {
        let text = Sizes::simple(MOST_REQUEST - 2, 2);
        let named = ["name", "generateName"].map(|field| (field.to_owned(), text.clone()));
        let metadata = Sizes { fields: named.into(), ..Sizes::simple(0, 2) };
        sizes.fields.extend([
            ("apiVersion".into(), text.clone()),
            ("kind".into(), text),
            ("metadata".into(), metadata),
        ]);
    }
    sizes
}
