//! A layer's tar stream, written out for overlayfs: whiteouts become 0/0 devices, opaque markers an attribute.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use nix::sys::stat::SFlag;
use tar::EntryType;

use super::parents::Below;
use super::tree::{Attributes, Place, Tree, is_overlay_key};
use crate::Error;
use crate::error::IoContext as _;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE_KEY: &str = "trusted.overlay.opaque";

/// Unpacks the stream into the empty directory `into`. `below` are the unpacked layers below, the nearest first.
pub(crate) fn unpack(stream: &mut impl Read, into: &Path, below: &[PathBuf]) -> Result<(), Error> {
    let mut unpacking = Unpacking {
        tree: Tree::open(into).at("open", into)?,
        below: Below::open(below).at("open the layers below", into)?,
        whiteouts: HashSet::new(),
        times: Vec::new(),
    };
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries().at("read the layer for", into)? {
        let mut entry = entry.at("read the layer for", into)?;
        let path = PathBuf::from(OsString::from_vec(entry.path_bytes().into_owned()));
        unpacking.entry(&mut entry, &path)?;
    }
    unpacking.finish()
}

struct Unpacking {
    tree: Tree,
    below: Below,
    /// Names that this layer removed from those below: a directory that comes later must not let them shine through.
    whiteouts: HashSet<PathBuf>,
    /// Directories' times, set last: writing into a directory changes its time.
    times: Vec<(PathBuf, (i64, i64))>,
}

impl Unpacking {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, raw: &Path) -> Result<(), Error> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = inside(raw)?;
        let attributes = attributes(entry).at("read the header of", &path)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.root(kind, &attributes);
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        self.parents(parent).at("create the directory", parent)?;
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(parent, &name).at("remove what is below", &path);
        }
        let place = self.tree.place(&path).at("open the directory of", &path)?;
        let place = place.ok_or_else(|| Error::malformed(path.display().to_string(), "has no name"))?;
        match kind {
            EntryType::Directory => self.directory(&path, &place, &attributes).at("create the directory", &path),
            EntryType::Link => self.hard_link(entry, &path, &place),
            _ => self.leaf(entry, kind, &path, &place, &attributes),
        }
    }

    /// `./` sets the looks of the root itself.
    fn root(&mut self, kind: EntryType, attributes: &Attributes) -> Result<(), Error> {
        if kind != EntryType::Directory {
            return Err(Error::malformed("layer", "the root of an image must be a directory"));
        }
        let here = self.tree.dir(Path::new("")).at("open", "/")?;
        Place { parent: here, name: ".".into() }.set(attributes, false).at("set the attributes of", "/")?;
        self.times.push((PathBuf::new(), attributes.modified));
        Ok(())
    }

    /// Makes the directories on the way that the tar leaves out.
    fn parents(&mut self, parent: &Path) -> io::Result<()> {
        if self.tree.dir(parent).is_ok() {
            return Ok(());
        }
        let mut path = PathBuf::new();
        for component in parent.components() {
            path.push(component);
            match self.tree.dir(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                found => {
                    found?;
                    continue;
                }
            }
            if let Some(place) = self.tree.place(&path)? {
                place.make_dir()?;
                let looks = self.below.directory(&path);
                place.set(&looks, false)?;
                if looks.modified != (0, 0) {
                    self.times.push((path.clone(), looks.modified));
                }
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, parent: &Path, name: &OsStr) -> io::Result<()> {
        let here = self.tree.dir(parent)?;
        if name.as_bytes() == OPAQUE {
            return set_opaque(&Place { parent: here, name: ".".into() });
        }
        // Bookkeeping of aufs, of no meaning to others.
        if name.as_bytes().starts_with(AUFS) {
            return Ok(());
        }
        let hidden = OsStr::from_bytes(&name.as_bytes()[WHITEOUT.len()..]);
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a whiteout without a name"));
        }
        let place = Place { parent: here, name: hidden.to_owned() };
        match place.stat()? {
            // Whiteouts are about the layers below; this layer's own directory stays, alone.
            Some(stat) if is(&stat, SFlag::S_IFDIR) => set_opaque(&place),
            Some(_) => Ok(()),
            None => {
                self.whiteouts.insert(parent.join(hidden));
                place.make_node(SFlag::S_IFCHR, 0, 0)
            }
        }
    }

    fn directory(&mut self, path: &Path, place: &Place, attributes: &Attributes) -> io::Result<()> {
        let known = place.stat()?;
        if !known.as_ref().is_some_and(|stat| is(stat, SFlag::S_IFDIR)) {
            if known.is_some() {
                place.remove()?;
            }
            place.make_dir()?;
            if self.whiteouts.remove(path) {
                set_opaque(place)?;
            }
        }
        place.set(attributes, false)?;
        self.times.push((path.to_owned(), attributes.modified));
        Ok(())
    }

    fn hard_link<R: Read>(&self, entry: &mut tar::Entry<'_, R>, path: &Path, place: &Place) -> Result<(), Error> {
        let target = entry.link_name_bytes().map(|b| PathBuf::from(OsString::from_vec(b.into_owned())));
        let target = inside(&target.unwrap_or_default())?;
        let link = || -> io::Result<()> {
            let target = self.tree.place(&target)?.ok_or(io::ErrorKind::InvalidInput)?;
            if let (Some(old), Some(new)) = (place.stat()?, target.stat()?) {
                if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino) {
                    return Ok(());
                }
                place.remove()?;
            }
            place.make_hard_link(&target)
        };
        link().at("create the hard link", path)
    }

    fn leaf<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        kind: EntryType,
        path: &Path,
        place: &Place,
        attributes: &Attributes,
    ) -> Result<(), Error> {
        if place.stat().at("look at", path)?.is_some() {
            place.remove().at("replace", path)?;
        }
        let is_link = kind == EntryType::Symlink;
        let mut make = || -> io::Result<()> {
            let header = entry.header();
            let device = || -> io::Result<(u64, u64)> {
                Ok((header.device_major()?.unwrap_or(0).into(), header.device_minor()?.unwrap_or(0).into()))
            };
            match kind {
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                    let mut file = place.create()?;
                    io::copy(entry, &mut file)?;
                    Ok(())
                }
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().map(|b| b.into_owned()).unwrap_or_default();
                    place.make_link(OsStr::from_bytes(&target))
                }
                EntryType::Char => device().and_then(|(major, minor)| place.make_node(SFlag::S_IFCHR, major, minor)),
                EntryType::Block => device().and_then(|(major, minor)| place.make_node(SFlag::S_IFBLK, major, minor)),
                EntryType::Fifo => place.make_node(SFlag::S_IFIFO, 0, 0),
                other => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("unknown tar entry type {:?}", char::from(other.as_byte())),
                )),
            }?;
            place.set(attributes, is_link)?;
            place.set_time(attributes.modified)
        };
        make().at("create", path)
    }

    fn finish(self) -> Result<(), Error> {
        // The last word on a directory counts; one that was replaced later has none.
        for (path, time) in &self.times {
            let done = match self.tree.dir_without_links(path) {
                Ok(here) => Place { parent: here, name: ".".into() }.set_time(*time),
                Err(_) => Ok(()),
            };
            done.at("set the time of", path)?;
        }
        Ok(())
    }
}

fn set_opaque(place: &Place) -> io::Result<()> {
    xattr::set(place.proc_path(), OPAQUE_KEY, b"y")
}

fn is(stat: &nix::sys::stat::FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == kind
}

/// The path relative to the image's root; `..` is refused, for nothing honest writes it.
fn inside(raw: &Path) -> Result<PathBuf, Error> {
    let mut out = PathBuf::new();
    for component in raw.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::malformed(
                    format!("layer entry {:?}", raw.display().to_string()),
                    "leaves the image",
                ));
            }
        }
    }
    Ok(out)
}

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Attributes> {
    let header = entry.header();
    let id = |n: u64| u32::try_from(n).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "owner out of range"));
    let mut out = Attributes {
        uid: id(header.uid()?)?,
        gid: id(header.gid()?)?,
        mode: header.mode()?,
        modified: (i64::try_from(header.mtime()?).unwrap_or(0), 0),
        xattrs: Vec::new(),
    };
    let Some(extensions) = entry.pax_extensions()? else { return Ok(out) };
    for extension in extensions {
        let extension = extension?;
        let (key, value) = (extension.key_bytes(), extension.value_bytes());
        if key == b"mtime" {
            out.modified = std::str::from_utf8(value).ok().and_then(parse_time).unwrap_or(out.modified);
        } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            let name = OsStr::from_bytes(name);
            if !is_overlay_key(name) {
                out.xattrs.push((name.to_owned(), value.to_vec()));
            }
        }
    }
    Ok(out)
}

/// `seconds[.fraction]`, before the epoch too.
fn parse_time(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    Some(match whole.starts_with('-') && nanos > 0 {
        true => (seconds - 1, 1_000_000_000 - nanos),
        false => (seconds, nanos),
    })
}
