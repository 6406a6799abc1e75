//! Paths in volumes: relative, without steps back; modes of files.

use crate::spot::{Errors, Spot};

pub(super) fn no_backsteps(path: &Spot, errors: &mut Errors) {
    if path.text().split('/').any(|part| part == "..") {
        path.fail("must not contain '..'", errors);
    }
}

/// A path below a directory.
pub(super) fn descending(path: &Spot, errors: &mut Errors) {
    if path.text().starts_with('/') {
        path.fail("must be a relative path", errors);
    }
    no_backsteps(path, errors);
}

/// A path below a directory that is not kept for the directory's own use.
pub(super) fn local(path: &Spot, errors: &mut Errors) {
    descending(path, errors);
    if path.text().starts_with("..") && !path.text().starts_with("../") {
        path.fail("must not start with '..'", errors);
    }
}

/// Permission bits.
pub(super) fn mode(mode: &Spot, errors: &mut Errors) {
    if mode.number().is_some_and(|m| !(0..=0o777).contains(&m)) {
        mode.fail("must be a number between 0 and 0777 (octal), both inclusive", errors);
    }
}
