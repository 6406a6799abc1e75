//! Volumes that join several sources.

use super::super::{containers, paths};
use super::sources::key_to_path;
use crate::spot::{Errors, Spot};

pub(super) fn validate(projected: &Spot, errors: &mut Errors) {
    paths::mode(&projected.at("defaultMode"), errors);
    let mut seen: Vec<&str> = Vec::new();
    for source in projected.list("sources") {
        let mut count = 0;
        for kind in ["secret", "configMap"].into_iter().filter(|k| source.at(k).is_set()) {
            count += 1;
            let this = source.at(kind);
            this.at("name").require(errors);
            for item in this.list("items") {
                key_to_path(&item, errors);
                unique(projected, item.at("path").text(), this.at("name").text(), &mut seen, errors);
            }
        }
        if source.at("downwardAPI").is_set() {
            count += 1;
            let this = source.at("downwardAPI");
            for file in this.list("items") {
                containers::file(&file, &this, errors);
                let path = file.at("path").text();
                unique(projected, path, path, &mut seen, errors);
            }
        }
        if source.at("serviceAccountToken").is_set() {
            count += 1;
            token(projected, &source.at("serviceAccountToken"), errors);
        }
        if source.at("clusterTrustBundle").is_set() {
            count += 1;
        }
        if count > 1 {
            source.forbid("may not specify more than 1 volume type per source", errors);
        }
    }
}

/// No two sources have a file of one path.
fn unique<'v>(projected: &Spot, path: &'v str, shown: &str, seen: &mut Vec<&'v str>, errors: &mut Errors) {
    if path.is_empty() {
        return;
    }
    if seen.contains(&path) {
        projected.fail_as(shown, "conflicting duplicate paths", errors);
    } else {
        seen.push(path);
    }
}

fn token(projected: &Spot, token: &Spot, errors: &mut Errors) {
    let seconds = token.at("expirationSeconds");
    if seconds.count() < 600 {
        seconds.fail_as(seconds.count(), "may not specify a duration less than 10 minutes", errors);
    }
    if seconds.count() > 1 << 32 {
        seconds.fail("may not specify a duration larger than 2^32 seconds", errors);
    }
    // Upstream names the volume's path, not the token's.
    let path = projected.alias("path", token.at("path").value);
    if path.require(errors) {
        paths::local(&path, errors);
    }
}
