//! Which file is the user's, and who the user is.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Who a file that we make belongs to; `None`: whoever we run as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner(pub(super) Option<(u32, u32)>);

impl Owner {
    /// The owner of a file that is there.
    pub(super) fn of(path: &Path) -> Self {
        Self(std::fs::metadata(path).ok().map(|m| (m.uid(), m.gid())))
    }
}

/// Where the user's kubeconfig is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The files of `KUBECONFIG`, in order, or the one in the home directory.
    pub(super) files: Vec<PathBuf>,
    pub(super) owner: Owner,
}

impl Place {
    /// Finds it by the environment: `KUBECONFIG`, else `~/.kube/config` of the user, who is the one that called sudo if sudo was
    /// called.
    pub fn discover() -> Result<Self, super::KubeconfigError> {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let is_root = nix::unistd::geteuid().is_root();
        Self::find(|name| std::env::var_os(name).filter(|v| !v.is_empty()), &users, is_root)
            .ok_or(super::KubeconfigError::Nowhere)
    }

    pub(super) fn find(
        variable: impl Fn(&str) -> Option<std::ffi::OsString>,
        users: &str,
        is_root: bool,
    ) -> Option<Self> {
        let number = |name: &str| variable(name)?.to_str()?.parse::<u32>().ok();
        let caller = is_root.then(|| Some((number("SUDO_UID")?, number("SUDO_GID")?))).flatten();
        let caller = caller.filter(|(uid, _)| *uid != 0);
        if let Some(listed) = variable("KUBECONFIG") {
            let files: Vec<PathBuf> = std::env::split_paths(&listed).filter(|p| !p.as_os_str().is_empty()).collect();
            if !files.is_empty() {
                return Some(Self { files, owner: Owner(caller) });
            }
        }
        let home = match caller {
            Some((uid, _)) => home_of(users, uid)?,
            None => PathBuf::from(variable("HOME")?),
        };
        Some(Self { files: vec![home.join(".kube/config")], owner: Owner(caller) })
    }

    /// The file that has the entry, else the one that kubectl would add to: the first that exists, else the last.
    pub(super) fn target(&self, name: &str, has: impl Fn(&Path, &str) -> bool) -> PathBuf {
        let owner = self.files.iter().find(|f| has(f, name));
        let present = || self.files.iter().find(|f| f.exists());
        owner.or_else(present).or(self.files.last()).cloned().unwrap_or_default()
    }
}

/// The home directory of a user id, from the lines of a passwd file.
fn home_of(users: &str, uid: u32) -> Option<PathBuf> {
    let mut lines = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.get(2).is_some_and(|u| u.parse() == Ok(uid)))?;
    line.get(5).filter(|home| !home.is_empty()).map(|home| PathBuf::from(OsStr::new(home)))
}
