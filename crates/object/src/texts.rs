//! Compact texts for heads: every stored object has one, so each byte here is paid a hundred thousand times.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::ops::Deref;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A sorted map of texts in one allocation: labels, and the values of selectable fields. Few entries, read far more often than made, so
/// a walk finds an entry soonest. Objects that come one after the other are much alike in both: what they have in common is the same
/// memory, as with [`SharedText`].
///
/// ```
/// let labels: object::Texts = [("tier", "web"), ("app", "shop")].into_iter().collect();
/// assert_eq!(labels.get("app"), Some("shop"));
/// assert_eq!(labels.keys().collect::<Vec<_>>(), ["app", "tier"]);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// Key, NUL, value, NUL; and so on.
    pairs: SharedText,
}

/// What separates texts. No label and no field has it; an entry that does is left out.
const END: char = '\0';

impl Texts {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }
    /// True when there is a value of `key`.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }
    /// In the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut texts = self.pairs.split_terminator(END);
        std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
    }
    /// In order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }
    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
    /// The same as a map that can be changed.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Out of entries; of one key's, the last counts.
    fn of(mut entries: Vec<(Cow<'_, str>, Cow<'_, str>)>) -> Self {
        entries.retain(|(key, value)| !key.contains(END) && !value.contains(END));
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let size = entries.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
        let mut pairs = String::with_capacity(size);
        for (index, (key, value)) in entries.iter().enumerate() {
            if entries.get(index + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            pairs.extend([key, "\0", value, "\0"]);
        }
        Self { pairs: SharedText::remembered(&pairs) }
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Texts {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let entries: Vec<(K, V)> = entries.into_iter().collect();
        Self::of(entries.iter().map(|(k, v)| (k.as_ref().into(), v.as_ref().into())).collect())
    }
}

impl PartialEq<BTreeMap<String, String>> for Texts {
    fn eq(&self, other: &BTreeMap<String, String>) -> bool {
        self.iter().eq(other.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Piece<'a>(#[serde(borrow)] Cow<'a, str>);
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut entries = Vec::new();
                while let Some((Piece(key), Piece(value))) = map.next_entry()? {
                    entries.push((key, value));
                }
                Ok(Texts::of(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// What a selector asks for labels.
pub trait Labels {
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for Texts {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// A text that many objects have in common (`apps/v1`, `Pod`, the name of an owner): made again by the same thread soon after, it
/// is the same memory.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedText(Arc<str>);

/// Texts that a thread remembers.
const REMEMBERED: usize = 256;
/// Longer ones are hardly in common.
const MOST_SHARED: usize = 64;
/// The same of maps, of which there are several texts in one.
const MOST_REMEMBERED: usize = 512;

thread_local! {
    static RECENT: RefCell<Vec<SharedText>> = const { RefCell::new(Vec::new()) };
}

impl SharedText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn remembered(text: &str) -> Self {
        if text.is_empty() {
            return Self::default();
        }
        if text.len() > MOST_REMEMBERED {
            return Self(text.into());
        }
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(text);
        let place = usize::try_from(hash % REMEMBERED as u64).unwrap_or(0);
        RECENT.with_borrow_mut(|recent| {
            if recent.is_empty() {
                recent.resize(REMEMBERED, Self::default());
            }
            if &*recent[place].0 != text {
                recent[place] = Self(text.into());
            }
            recent[place].clone()
        })
    }
}

impl From<&str> for SharedText {
    fn from(text: &str) -> Self {
        if text.len() > MOST_SHARED { Self(text.into()) } else { Self::remembered(text) }
    }
}

impl From<String> for SharedText {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for SharedText {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl Deref for SharedText {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for SharedText {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for SharedText {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl PartialEq<String> for SharedText {
    fn eq(&self, other: &String) -> bool {
        *self.0 == **other
    }
}

impl PartialEq<SharedText> for String {
    fn eq(&self, other: &SharedText) -> bool {
        *other.0 == **self
    }
}

impl PartialEq<SharedText> for str {
    fn eq(&self, other: &SharedText) -> bool {
        &*other.0 == self
    }
}

impl PartialEq<SharedText> for serde_json::Value {
    fn eq(&self, other: &SharedText) -> bool {
        self.as_str() == Some(other)
    }
}

impl fmt::Display for SharedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for SharedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Serialize for SharedText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for SharedText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SharedText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E>(self, text: &str) -> Result<SharedText, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_a_map() {
        let check = |value: serde_json::Value| {
            let texts: Texts = serde_json::from_str(&value.to_string()).unwrap();
            let map: BTreeMap<String, String> = serde_json::from_value(value.clone()).unwrap();
            assert!(texts == map && texts.to_map() == map && texts.len() == map.len());
            assert_eq!(texts, map.iter().collect::<Texts>());
            assert_eq!(texts, serde_json::from_value::<Texts>(value).unwrap());
            map.iter().for_each(|(key, text)| assert_eq!(texts.get(key), Some(text.as_str())));
            assert_eq!((texts.get("nope"), texts.is_empty()), (None, map.is_empty()));
        };
        check(json!({}));
        check(json!({"": ""}));
        check(json!({"b": "2", "a": "", "c\"": "\u{e9}\n"}));
        let last: Texts = serde_json::from_str(r#"{"a": "1", "b": "2", "a": "3", "c": "x\u0000y"}"#).unwrap();
        assert_eq!(last.iter().collect::<Vec<_>>(), [("a", "3"), ("b", "2")]);
        assert!(serde_json::from_str::<Texts>(r#"{"a": 1}"#).is_err());
    }

    #[test]
    fn a_text_that_comes_again_is_shared() {
        let (one, two): (SharedText, SharedText) = ("apps/v1".into(), String::from("apps/v1").into());
        assert!(Arc::ptr_eq(&one.0, &two.0));
        assert!(one == "apps/v1" && one != "v1" && json!("apps/v1") == one);
        let long: SharedText = "x".repeat(MOST_SHARED + 1).into();
        assert!(!Arc::ptr_eq(&long.0, &SharedText::from(long.as_str()).0));
    }
}
