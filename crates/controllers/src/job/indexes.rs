//! Completion indexes: `0-2,5`.

use std::collections::BTreeSet;

use object::Object;
use serde::Deserialize;

use crate::views::Any;

/// The annotation and label with a pod's index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

pub(super) type Indexes = BTreeSet<i64>;

/// Reads `0-2,5`.
pub(super) fn parse(text: &str) -> Indexes {
    let mut indexes = Indexes::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) {
            indexes.extend(first..=last);
        }
    }
    indexes
}

/// Writes `0-2,5`; two in a row are written one by one.
pub(super) fn print(indexes: &Indexes) -> String {
    let mut parts: Vec<(i64, i64)> = Vec::new();
    for index in indexes {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => parts.push((*index, *index)),
        }
    }
    let print = |(first, last): &(i64, i64)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    parts.iter().map(print).collect::<Vec<_>>().join(",")
}

/// A pod's index.
pub(super) fn of_pod(pod: &Object) -> Option<i64> {
    if let Some(index) = pod.head.labels.get(INDEX) {
        return index.parse().ok();
    }
    Any::deserialize(&pod.value().ok()?).ok()?.metadata.annotation(INDEX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for text in ["", "0", "0,1", "0-2", "0-2,5", "1,3-5,7,8"] {
            assert_eq!(print(&parse(text)), text);
        }
    }
}
