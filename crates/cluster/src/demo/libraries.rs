//! The shared libraries of this program, for an image that is to run it: none when it is linked statically.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Files that this process has mapped and an image of it needs: libraries and the program that loads them.
pub fn of_this_process() -> std::io::Result<Vec<PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let own = fs::read_link("/proc/self/exe")?;
    Ok(libraries(&maps).into_iter().filter(|path| *path != own).collect())
}

/// Paths of executable mappings of files called `*.so*`.
fn libraries(maps: &str) -> BTreeSet<PathBuf> {
    let mapped = maps.lines().filter_map(|line| {
        let (fields, path) = line.split_once('/')?;
        let path = PathBuf::from(format!("/{path}"));
        let is_library = path.file_name()?.to_str()?.contains(".so");
        (is_library && fields.split(' ').nth(1)?.contains('x')).then_some(path)
    });
    mapped.collect()
}

/// Where the kernel looks for the loader, as the program says (`PT_INTERP` of a 64-bit ELF file of this machine's byte order);
/// `None` when it is linked statically.
pub fn loader(program: &[u8]) -> Option<PathBuf> {
    const PT_INTERP: u32 = 3;
    let at = |offset: usize, length: usize| program.get(offset..offset.checked_add(length)?);
    let half = |offset| Some(usize::from(u16::from_ne_bytes(at(offset, 2)?.try_into().ok()?)));
    let long = |offset| usize::try_from(u64::from_ne_bytes(at(offset, 8)?.try_into().ok()?)).ok();
    if at(0, 5)? != b"\x7fELF\x02" {
        return None;
    }
    let (table, size, count) = (long(32)?, half(54)?, half(56)?);
    let mut headers = (0..count).map(|nth| table + nth * size);
    let header = headers.find(|h| at(*h, 4).is_some_and(|kind| kind == PT_INTERP.to_ne_bytes()))?;
    let text = at(long(header + 8)?, long(header + 32)?)?;
    Some(PathBuf::from(std::str::from_utf8(text).ok()?.trim_end_matches('\0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_libraries_are_found() {
        let maps = "00-10 r-xp 00000000 fe:00 1 /usr/bin/navarch\n10-20 r--p 0 fe:00 2 /lib/libc.so.6\n\
                    20-30 r-xp 0 fe:00 2 /lib/libc.so.6\n30-40 r-xp 0 00:00 0 [vdso]\n40-50 r-xp 0 fe:00 3 /lib/ld-linux-x86-64.so.2\n";
        let found: Vec<_> = libraries(maps).into_iter().collect();
        assert_eq!(found, [PathBuf::from("/lib/ld-linux-x86-64.so.2"), PathBuf::from("/lib/libc.so.6")]);
        // Whatever this test is linked like: loader and libraries come together or not at all.
        let program = fs::read("/proc/self/exe").unwrap();
        let libraries = of_this_process().unwrap();
        assert_eq!(loader(&program).is_some(), !libraries.is_empty(), "{libraries:?}");
        assert_eq!(loader(b"#!/bin/sh"), None);
    }
}
