//! `subPath`: a part of a volume, resolved so that no link inside the volume can lead out of it.
//!
//! The path is opened with `openat2(RESOLVE_BENEATH)`, and what was opened (not the path again) is bound to a place of
//! the pod's own, so that nobody can swap a directory for a link between the check and the mount.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

use super::mounter::Mounter;

/// Which mount of which container this is.
pub(crate) struct Place<'a> {
    pub(crate) pod_dir: &'a Path,
    pub(crate) volume: &'a str,
    pub(crate) container: &'a str,
    pub(crate) index: usize,
}

/// Opens `sub` in `volume`, making directories that are missing, and binds it to the pod's place for it.
pub(crate) fn prepare(mounter: &dyn Mounter, volume: &Path, sub: &str, place: &Place) -> io::Result<PathBuf> {
    let opened = open_beneath(volume, Path::new(sub))?;
    let is_dir = SFlag::from_bits_truncate(fstat(&opened)?.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
    let parent = place.pod_dir.join("volume-subpaths").join(place.volume).join(place.container);
    std::fs::create_dir_all(&parent)?;
    let target = parent.join(place.index.to_string());
    if mounter.is_mount_point(&target) {
        // Of an earlier incarnation of the container: the path may lead elsewhere by now.
        mounter.unmount_below(&target)?;
    }
    match is_dir {
        true => std::fs::create_dir_all(&target)?,
        false => drop(std::fs::OpenOptions::new().create(true).append(true).open(&target)?),
    }
    mounter.bind(opened.as_fd(), &target)?;
    Ok(target)
}

fn open_beneath(volume: &Path, sub: &Path) -> io::Result<OwnedFd> {
    let root = open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mode = Mode::from_bits_truncate(fstat(&root)?.st_mode & 0o7777);
    let mut walked = PathBuf::new();
    for part in sub.components() {
        match part {
            Component::Normal(name) => walked.push(name),
            Component::CurDir => continue,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "subPath must stay inside the volume")),
        }
        match openat2(&root, &walked, how) {
            Ok(_) => {}
            Err(nix::Error::ENOENT) => {
                let name = walked.file_name().unwrap_or_default().to_owned();
                let parent = match walked.parent().filter(|p| !p.as_os_str().is_empty()) {
                    Some(parent) => openat2(&root, parent, how)?,
                    None => openat2(&root, ".", how)?,
                };
                match mkdirat(&parent, Path::new(&name), mode) {
                    Ok(()) | Err(nix::Error::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let path = if walked.as_os_str().is_empty() { Path::new(".") } else { walked.as_path() };
    Ok(openat2(&root, path, how)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::mounter::FakeMounter;

    #[test]
    fn links_cannot_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        std::fs::create_dir_all(volume.join("in/deep")).unwrap();
        std::fs::create_dir(dir.path().join("secret")).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../secret", volume.join("relative")).unwrap();
        std::os::unix::fs::symlink("in/deep", volume.join("inside")).unwrap();
        let mounter = FakeMounter::default();
        let place = Place { pod_dir: &dir.path().join("pod"), volume: "v", container: "c", index: 0 };
        for (sub, fine) in [
            ("in/deep", true),
            ("inside", true),
            ("new/dirs/here", true),
            ("absolute", false),
            ("absolute/passwd", false),
            ("relative", false),
            ("relative/x", false),
            ("../secret", false),
        ] {
            assert_eq!(prepare(&mounter, &volume, sub, &place).is_ok(), fine, "{sub}");
        }
        assert!(volume.join("new/dirs/here").is_dir());
        assert!(!dir.path().join("secret/x").exists());
    }
}
