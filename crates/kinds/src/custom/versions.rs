//! Which version comes first: `v2`, `v1`, `v2beta1`, `v1beta2`, `v1alpha1`, then others by name.

use std::cmp::{Ordering, Reverse};

/// Stability (2: GA, 1: beta, 0: alpha), major, minor.
fn parts(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let number = |text: &str| if text.starts_with('0') { None } else { text.parse::<u64>().ok() };
    let major = number(&rest[..digits])?;
    match &rest[digits..] {
        "" => Some((2, major, 0)),
        rest => {
            let (stability, minor) =
                rest.strip_prefix("beta").map(|m| (1, m)).or(rest.strip_prefix("alpha").map(|m| (0, m)))?;
            Some((stability, major, number(minor)?))
        }
    }
}

/// The order of preference.
pub fn by_priority(one: &str, other: &str) -> Ordering {
    match (parts(one), parts(other)) {
        (Some(a), Some(b)) => Reverse(a).cmp(&Reverse(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => one.cmp(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_documentation() {
        let wanted = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
        let mut sorted = wanted.to_vec();
        sorted.reverse();
        sorted.sort_by(|a, b| by_priority(a, b));
        assert_eq!(sorted, wanted);
    }
}
