//! Atomic projection of files into a directory: readers see all of the old files or all of the new ones.
//!
//! ```text
//! dir/..2026_11_21_02_00_00.123/user/labels     the files
//! dir/..data -> ..2026_11_21_02_00_00.123       renamed into place: the one atomic step
//! dir/user   -> ..data/user                     what containers open
//! ```

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use super::{Cause, Payload, ownership};

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Makes `dir` show exactly `payload`. Nothing is touched when it does already.
pub(crate) fn write(dir: &Path, payload: &Payload, fs_group: Option<i64>) -> Result<(), Cause> {
    payload.keys().try_for_each(|path| validate(path))?;
    let data = dir.join(DATA);
    let old = std::fs::read_link(&data).ok();
    if old.is_some() && is_current(&data, payload) {
        return Ok(());
    }
    let name = version_name(dir);
    let fresh = dir.join(&name);
    let published = write_version(&fresh, payload, fs_group).and_then(|()| publish(dir, &name));
    if let Err(error) = published {
        // The version that was never published is of no use to anybody.
        let _ = std::fs::remove_dir_all(&fresh);
        return Err(error);
    }
    link_visible(dir, payload)?;
    if let Some(old) = old {
        let stale = dir.join(old);
        std::fs::remove_dir_all(&stale).map_err(Cause::io("cannot remove", &stale))?;
    }
    Ok(())
}

fn validate(path: &Path) -> Result<(), Cause> {
    let bad = |why: &str| Err(Cause::Spec(format!("invalid path {:?}: {why}", path.display().to_string())));
    if path.as_os_str().is_empty() {
        return bad("must not be empty");
    }
    if path.as_os_str().len() > 4096 {
        return bad("is too long");
    }
    for part in path.components() {
        match part {
            Component::Normal(_) | Component::CurDir => {}
            Component::ParentDir => return bad("must not contain '..'"),
            _ => return bad("must be a relative path"),
        }
    }
    match path.to_string_lossy().starts_with("..") {
        true => bad("must not start with '..'"),
        false => Ok(()),
    }
}

fn is_current(data: &Path, payload: &Payload) -> bool {
    let same = |(path, file): (&PathBuf, &super::File)| {
        let full = data.join(path);
        std::fs::read(&full).is_ok_and(|bytes| bytes == file.bytes)
    };
    payload.iter().all(same) && files_below(data).len() == payload.len()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                _ => out.push(entry.path()),
            }
        }
    }
    out
}

fn version_name(dir: &Path) -> OsString {
    let now = jiff::Timestamp::now();
    let stem = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let mut number = now.subsec_nanosecond();
    while dir.join(format!("{stem}.{number}")).exists() {
        number += 1;
    }
    format!("{stem}.{number}").into()
}

fn write_version(fresh: &Path, payload: &Payload, fs_group: Option<i64>) -> Result<(), Cause> {
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Cause::io("cannot chmod", path))
    };
    std::fs::create_dir(fresh).map_err(Cause::io("cannot create", fresh))?;
    mode(fresh, 0o755)?;
    for (path, file) in payload {
        let full = fresh.join(path);
        if let Some(parent) = full.parent() {
            std::fs::create_dir_all(parent).map_err(Cause::io("cannot create", parent))?;
            mode(parent, 0o755)?;
        }
        std::fs::write(&full, &file.bytes).map_err(Cause::io("cannot write", &full))?;
        mode(&full, file.mode)?;
        if file.user.is_some() {
            chown(&full, file.user, None).map_err(Cause::io("cannot chown", &full))?;
        }
    }
    match fs_group {
        // Upstream calls all projected volumes read-only, so the group may read and not write.
        Some(group) => ownership::give_to(fresh, group, true),
        None => Ok(()),
    }
}

fn publish(dir: &Path, name: &OsString) -> Result<(), Cause> {
    let next = dir.join(DATA_NEXT);
    // Left over from a crash between link and rename.
    let _ = std::fs::remove_file(&next);
    symlink(name, &next).map_err(Cause::io("cannot link", &next))?;
    std::fs::rename(&next, dir.join(DATA)).map_err(Cause::io("cannot rename", &next))
}

/// Links for the first part of every path; links to what is gone are removed.
fn link_visible(dir: &Path, payload: &Payload) -> Result<(), Cause> {
    let wanted: BTreeSet<OsString> = payload.keys().filter_map(|p| first_part(p)).collect();
    for name in &wanted {
        let link = dir.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(Cause::io("cannot link", &link))?;
        }
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours = entry.file_type().is_ok_and(|t| t.is_symlink()) && !name.to_string_lossy().starts_with("..");
        if is_ours && !wanted.contains(&name) {
            std::fs::remove_file(entry.path()).map_err(Cause::io("cannot remove", &entry.path()))?;
        }
    }
    Ok(())
}

fn first_part(path: &Path) -> Option<OsString> {
    path.components().find_map(|c| match c {
        Component::Normal(name) => Some(name.to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::File;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |text: &str| File { bytes: text.into(), mode: 0o644, user: None };
        files.iter().map(|(path, text)| (PathBuf::from(path), file(text))).collect()
    }

    #[test]
    fn updates_swap_one_link_and_leave_no_stale_files() {
        let dir = tempfile::tempdir().unwrap();
        let read = |path: &str| std::fs::read_to_string(dir.path().join(path)).ok();
        write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!((read("a").as_deref(), read("d/b").as_deref()), (Some("1"), Some("2")));
        let version = std::fs::read_link(dir.path().join(DATA)).unwrap();
        write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(std::fs::read_link(dir.path().join(DATA)).unwrap(), version);
        write(dir.path(), &payload(&[("a", "9")]), None).unwrap();
        assert_eq!((read("a").as_deref(), read("d/b")), (Some("9"), None));
        assert!(dir.path().join("d").symlink_metadata().is_err());
        assert!(!dir.path().join(version).exists());
        write(dir.path(), &payload(&[]), None).unwrap();
        assert_eq!(read("a"), None);
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../../x", "..x", ""] {
            assert!(write(dir.path(), &payload(&[(path, "1")]), None).is_err(), "{path}");
        }
    }
}
