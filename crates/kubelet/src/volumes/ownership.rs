//! `fsGroup`: files of a volume belong to a group that may read and write them.

use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use super::Cause;

/// Gives everything at and below `dir` to `group`.
pub(crate) fn give_to(dir: &Path, group: i64, read_only: bool) -> Result<(), Cause> {
    let gid = u32::try_from(group).map_err(|_| Cause::Spec(format!("invalid fsGroup {group}")))?;
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        let meta = path.symlink_metadata().map_err(Cause::io("cannot stat", &path))?;
        if meta.gid() != gid {
            lchown(&path, None, Some(gid)).map_err(Cause::io("cannot chown", &path))?;
        }
        if meta.is_symlink() {
            continue;
        }
        let mut mode = meta.mode() | if read_only { 0o440 } else { 0o660 };
        if meta.is_dir() {
            mode |= 0o2110;
            let entries = std::fs::read_dir(&path).map_err(Cause::io("cannot list", &path))?;
            open.extend(entries.flatten().map(|e| e.path()));
        }
        let permissions = std::fs::Permissions::from_mode(mode & 0o7777);
        std::fs::set_permissions(&path, permissions).map_err(Cause::io("cannot chmod", &path))?;
    }
    Ok(())
}
