//! Query strings of requests.

use std::fmt::Write;

use crate::{ApplyOptions, ListOptions, WriteOptions};

#[derive(Default)]
struct Query(String);

impl Query {
    fn add(mut self, key: &str, value: &str) -> Self {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(key);
        self.0.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => self.0.push(byte.into()),
                // Writing to a string cannot fail.
                other => drop(write!(self.0, "%{other:02X}")),
            }
        }
        self
    }

    fn add_if(self, key: &str, value: Option<String>) -> Self {
        match value {
            Some(value) if !value.is_empty() => self.add(key, &value),
            _ => self,
        }
    }

    fn selectors(self, options: &ListOptions) -> Self {
        let fields: Vec<String> = options
            .fields
            .terms
            .iter()
            .map(|(field, equal, value)| {
                let value = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
                format!("{field}{}{value}", if *equal { "=" } else { "!=" })
            })
            .collect();
        self.add_if("labelSelector", Some(options.labels.to_string())).add_if("fieldSelector", Some(fields.join(",")))
    }
}

/// Of a LIST or the selection of a DELETE of a collection.
pub(super) fn of_list(options: &ListOptions) -> String {
    Query::default()
        .selectors(options)
        .add_if("limit", (options.limit > 0).then(|| options.limit.to_string()))
        .add_if("continue", options.continue_token.clone())
        .add_if("resourceVersion", options.resource_version.map(|v| v.to_string()))
        .0
}

/// Of a WATCH that the server ends after `seconds`.
pub(super) fn of_watch(options: &ListOptions, seconds: u64) -> String {
    Query::default()
        .add("watch", "true")
        .add("allowWatchBookmarks", "true")
        .add("timeoutSeconds", &seconds.to_string())
        .selectors(options)
        .add_if("resourceVersion", options.resource_version.map(|v| v.to_string()))
        .0
}

/// Of a write.
pub(super) fn of_write(options: &WriteOptions, apply: Option<&ApplyOptions>) -> String {
    let manager = apply.map(|a| a.field_manager.clone()).or_else(|| options.field_manager.clone());
    Query::default()
        .add_if("fieldManager", manager)
        .add_if("force", apply.filter(|a| a.force).map(|_| "true".into()))
        .add_if("dryRun", options.dry_run.then(|| "All".into()))
        .0
}

#[cfg(test)]
mod tests {
    use object::{FieldSelector, LabelSelector};

    use super::*;

    #[test]
    fn values_are_escaped_and_empty_ones_left_out() {
        let options = ListOptions {
            labels: LabelSelector::parse("a in (b,c),d").unwrap(),
            fields: FieldSelector::parse("spec.nodeName=n1,status.phase!=Failed").unwrap(),
            resource_version: Some(7),
            ..ListOptions::default()
        };
        assert_eq!(
            of_list(&options),
            "?labelSelector=a%20in%20%28b%2Cc%29%2Cd&fieldSelector=spec.nodeName%3Dn1%2Cstatus.phase%21%3DFailed&resourceVersion=7"
        );
        assert_eq!(of_list(&ListOptions::default()), "");
        let apply = ApplyOptions { field_manager: "me".into(), force: true };
        let write = WriteOptions { field_manager: Some("other".into()), dry_run: true };
        assert_eq!(of_write(&write, Some(&apply)), "?fieldManager=me&force=true&dryRun=All");
    }
}
