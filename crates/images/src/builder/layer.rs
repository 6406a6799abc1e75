//! What is in a layer that is being made.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

/// The content of an entry.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Directory,
    Bytes(Vec<u8>),
    /// Read when the image is built.
    HostFile(PathBuf),
    Symlink(PathBuf),
    HardLink(PathBuf),
    Device {
        is_block: bool,
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// One file of a layer.
#[derive(Clone, Debug)]
pub struct Entry {
    pub(crate) content: Content,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: u64,
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
}

impl Entry {
    fn new(content: Content, mode: u32) -> Self {
        Self { content, mode, uid: 0, gid: 0, modified: 0, xattrs: Vec::new() }
    }
    /// A directory.
    pub fn dir(mode: u32) -> Self {
        Self::new(Content::Directory, mode)
    }
    /// A file with this content.
    pub fn file(mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self::new(Content::Bytes(content.into()), mode)
    }
    /// A symbolic link.
    pub fn symlink(target: impl Into<PathBuf>) -> Self {
        Self::new(Content::Symlink(target.into()), 0o777)
    }
    /// Another name of a file of this layer.
    pub fn hard_link(target: impl AsRef<Path>) -> Self {
        Self::new(Content::HardLink(relative(target.as_ref())), 0o644)
    }
    /// A device node.
    pub fn device(is_block: bool, major: u32, minor: u32, mode: u32) -> Self {
        Self::new(Content::Device { is_block, major, minor }, mode)
    }
    /// A named pipe.
    pub fn fifo(mode: u32) -> Self {
        Self::new(Content::Fifo, mode)
    }
    /// Its owner.
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }
    /// Its time of change, seconds since the epoch.
    pub fn modified(mut self, seconds: u64) -> Self {
        self.modified = seconds;
        self
    }
    /// An extended attribute.
    pub fn xattr(mut self, key: &str, value: &[u8]) -> Self {
        self.xattrs.push((key.to_owned(), value.to_vec()));
        self
    }
}

/// A layer in the making. Paths are those in the image; directories on the way are made.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    pub(crate) entries: BTreeMap<PathBuf, Entry>,
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an entry at a path, instead of what was there.
    pub fn entry(mut self, path: impl AsRef<Path>, entry: Entry) -> Self {
        self.put(path.as_ref(), entry);
        self
    }

    /// A directory.
    pub fn dir(self, path: impl AsRef<Path>, mode: u32) -> Self {
        self.entry(path, Entry::dir(mode))
    }

    /// A file with this content.
    pub fn file(self, path: impl AsRef<Path>, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entry(path, Entry::file(mode, content))
    }

    /// A symbolic link.
    pub fn symlink(self, path: impl AsRef<Path>, target: impl Into<PathBuf>) -> Self {
        self.entry(path, Entry::symlink(target))
    }

    /// Removes a path of the layers below.
    pub fn whiteout(self, path: impl AsRef<Path>) -> Self {
        let path = relative(path.as_ref());
        let mut name = OsString::from(".wh.");
        name.push(path.file_name().unwrap_or_default());
        self.entry(path.with_file_name(name), Entry::file(0o600, []))
    }

    /// Hides all that the layers below have in a directory.
    pub fn opaque(self, dir: impl AsRef<Path>) -> Self {
        self.entry(dir.as_ref().join(".wh..wh..opq"), Entry::file(0o600, []))
    }

    /// A file of this machine, links followed: its content and mode; owned by root.
    pub fn copy(mut self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<Self> {
        let from = from.as_ref().canonicalize()?;
        let mode = fs::metadata(&from)?.mode() & 0o7777;
        self.put(to.as_ref(), Entry::new(Content::HostFile(from), mode));
        Ok(self)
    }

    /// A tree of this machine as it is: links, owners, modes, times, extended attributes.
    pub fn tree(mut self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<Self> {
        let mut todo = vec![(from.as_ref().to_owned(), relative(to.as_ref()))];
        while let Some((from, to)) = todo.pop() {
            let meta = fs::symlink_metadata(&from)?;
            if meta.is_dir() {
                for child in fs::read_dir(&from)? {
                    let child = child?;
                    todo.push((child.path(), to.join(child.file_name())));
                }
            }
            if let Some(entry) = host_entry(&from, &meta)? {
                self.put(&to, entry);
            }
        }
        Ok(self)
    }

    fn put(&mut self, path: &Path, entry: Entry) {
        let path = relative(path);
        for parent in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
            self.entries.entry(parent.to_owned()).or_insert_with(|| Entry::dir(0o755));
        }
        self.entries.insert(path, entry);
    }
}

/// `None` for what no image holds: sockets.
fn host_entry(path: &Path, meta: &fs::Metadata) -> io::Result<Option<Entry>> {
    let kind = meta.file_type();
    let device = |is_block| {
        let number = meta.rdev();
        let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
        let fit = |n: u64| u32::try_from(n).unwrap_or(0);
        Content::Device { is_block, major: fit(major), minor: fit(minor) }
    };
    let content = match kind {
        _ if kind.is_dir() => Content::Directory,
        _ if kind.is_file() => Content::HostFile(path.to_owned()),
        _ if kind.is_symlink() => Content::Symlink(fs::read_link(path)?),
        _ if kind.is_block_device() => device(true),
        _ if kind.is_char_device() => device(false),
        _ if kind.is_fifo() => Content::Fifo,
        _ => return Ok(None),
    };
    let keys = xattr::list(path).into_iter().flatten().filter_map(|key| key.into_string().ok());
    let xattrs = keys.filter_map(|key| Some((key.clone(), xattr::get(path, &key).ok()??))).collect();
    let modified = u64::try_from(meta.mtime()).unwrap_or(0);
    Ok(Some(Entry { content, mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid(), modified, xattrs }))
}

/// Without the leading `/`, and without steps that lead elsewhere.
fn relative(path: &Path) -> PathBuf {
    path.components().filter(|c| matches!(c, Component::Normal(_))).collect()
}
