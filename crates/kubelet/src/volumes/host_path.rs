//! `hostPath`: a path of the node, checked to be what the pod says it is.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::{Cause, Mounted, blocking, mode};
use crate::api::HostPath;

/// Checks, and creates where the type says so.
pub(crate) async fn set_up(source: &HostPath) -> Result<Mounted, Cause> {
    let HostPath { path, r#type } = source.clone();
    blocking(move || {
        let target = Path::new(&path);
        if target.components().any(|c| c == std::path::Component::ParentDir) {
            return Err(Cause::Spec(format!("invalid HostPath `{path}`: must not contain '..'")));
        }
        check(target, &r#type)?;
        Ok(Mounted { path: target.to_owned(), read_only: false })
    })
    .await
}

fn check(path: &Path, kind: &str) -> Result<(), Cause> {
    let found = std::fs::metadata(path).ok().map(|m| m.file_type());
    let is = |test: fn(&std::fs::FileType) -> bool| found.as_ref().is_some_and(test);
    let (fits, what) = match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" if found.is_none() => {
            std::fs::create_dir_all(path).map_err(Cause::io("mkdir", path))?;
            return mode(path, 0o755);
        }
        "Directory" | "DirectoryOrCreate" => (is(std::fs::FileType::is_dir), "a directory"),
        "FileOrCreate" if found.is_none() => {
            std::fs::write(path, "").map_err(Cause::io("open", path))?;
            return mode(path, 0o644);
        }
        "File" | "FileOrCreate" => (is(std::fs::FileType::is_file), "a file"),
        "Socket" => (is(FileTypeExt::is_socket), "a socket file"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "a block device"),
        other => return Err(Cause::Spec(format!("{other} is an invalid volume type"))),
    };
    match fits {
        true => Ok(()),
        false => Err(Cause::Spec(format!("hostPath type check failed: {} is not {what}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "x").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("sock")).unwrap();
        for (name, kind, error) in [
            ("none", "", ""),
            ("none", "Directory", "is not a directory"),
            ("made/deep", "DirectoryOrCreate", ""),
            ("made", "Directory", ""),
            ("file", "DirectoryOrCreate", "is not a directory"),
            ("none", "File", "is not a file"),
            ("new", "FileOrCreate", ""),
            ("file", "File", ""),
            ("sock", "Socket", ""),
            ("file", "Socket", "is not a socket file"),
            ("file", "CharDevice", "is not a character device"),
            ("file", "BlockDevice", "is not a block device"),
            ("file", "Nonsense", "Nonsense is an invalid volume type"),
        ] {
            let said = check(&path(name), kind).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(said.ends_with(error) && said.is_empty() == error.is_empty(), "{name} {kind}: {said}");
        }
    }
}
