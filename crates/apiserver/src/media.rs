//! `Accept` headers, read as upstream's server reads them (RFC 9110, 12.5.1, with its own order of equals).

/// One of the media ranges that a client takes.
#[derive(Debug)]
pub(crate) struct Range<'a> {
    /// `application`, or `*`.
    kind: &'a str,
    /// `json`, or `*`.
    subtype: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// How much it is wanted: 1 unless it says otherwise.
    quality: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (media, rest) = text.split_once(';').unwrap_or((text, ""));
        let (kind, subtype) = match media.split_once('/') {
            Some((_, subtype)) if subtype.contains('/') => return None,
            Some((kind, subtype)) if !subtype.is_empty() => (kind.trim(), subtype.trim()),
            _ if media.trim_end_matches('/').trim() == "*" => ("*", "*"),
            _ => return None,
        };
        let mut range = Self { kind, subtype, parameters: Vec::new(), quality: 1.0 };
        for (name, value) in rest.split(';').filter_map(|parameter| parameter.split_once('=')) {
            match name.trim() {
                _ if value.is_empty() || value.contains('=') => {}
                "q" => range.quality = value.parse().unwrap_or(0.0),
                name => range.parameters.push((name, value.trim())),
            }
        }
        Some(range)
    }

    /// True when `media` is one of them.
    pub(crate) fn takes(&self, media: &str) -> bool {
        let Some((kind, subtype)) = media.split_once('/') else { return false };
        matches!((self.kind, self.subtype), ("*", "*")) || self.kind == kind && [subtype, "*"].contains(&self.subtype)
    }

    /// The first of these that it takes.
    pub(crate) fn first<T: Copy>(&self, offered: &[(&str, T)]) -> Option<T> {
        offered.iter().find(|(media, _)| self.takes(media)).map(|(_, it)| *it)
    }

    /// The value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        // The last of several counts.
        self.parameters.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| *value)
    }

    fn precedes(&self, other: &Self) -> bool {
        self.quality > other.quality
            || (self.kind != "*" && other.kind == "*")
            || (self.subtype != "*" && other.subtype == "*")
    }
}

/// What a client takes, best first. Malformed ranges are left out; a client that says nothing takes all.
pub(crate) fn ranges(accept: &str) -> Vec<Range<'_>> {
    let accept = if accept.is_empty() { "*/*" } else { accept };
    let mut all: Vec<Range<'_>> = accept.split(',').filter_map(|text| Range::parse(text.trim())).collect();
    // What precedes is no order of all of them (a range with a star may be wanted more), so how it is sorted matters: by insertion.
    for next in 1..all.len() {
        for at in (1..=next).rev() {
            if !all[at].precedes(&all[at - 1]) {
                break;
            }
            all.swap(at, at - 1);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_comes_first() {
        let order = |accept: &str| {
            let all = ranges(accept);
            all.iter().map(|range| format!("{}/{}", range.kind, range.subtype)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order(""), "*/*");
        assert_eq!(order("a/x;q=0.5, a/y"), "a/y a/x");
        assert_eq!(order("*/*, a/*, a/x;q=0.1"), "a/x a/* */*");
        assert_eq!(order("a/x, a/y;q=1"), "a/x a/y");
        assert_eq!(order("*, /, a, a/, a/b/c, a/x;q=no"), "a/x */*");
        let range = &ranges("application/json; as=Table ;v=v1;v=v2;x=;y=1=2")[0];
        assert_eq!((range.parameter("as"), range.parameter("v")), (Some("Table"), Some("v2")));
        assert_eq!((range.parameter("x"), range.parameter("y")), (None, None));
        assert!(range.takes("application/json") && !range.takes("application/yaml"));
    }
}
