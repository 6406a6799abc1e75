//! Whether an address can be listened on, and who has it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// Why not, in words; `None` when it can.
pub(super) fn taken(root: &Path, address: SocketAddr) -> Option<String> {
    let error = TcpListener::bind(address).err()?;
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return Some(error.to_string());
    }
    let holder = holder(root, address.port());
    Some(holder.map_or_else(|| "another program has that port".into(), |who| format!("{who} has that port")))
}

/// The program that listens on the port: its socket's inode, found among the processes' descriptors.
fn holder(root: &Path, port: u16) -> Option<String> {
    let inodes: Vec<String> = ["proc/net/tcp", "proc/net/tcp6"]
        .iter()
        .flat_map(|table| listening(&fs::read_to_string(root.join(table)).unwrap_or_default(), port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    for process in fs::read_dir(root.join("proc")).ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit())) else { continue };
        let descriptors = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut links = descriptors.filter_map(|fd| fs::read_link(fd.path()).ok());
        if links.any(|link| link.to_str().is_some_and(|link| inodes.iter().any(|inode| inode == link))) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", command.trim()));
        }
    }
    None
}

/// Inodes of the sockets that listen on the port, from the text of `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let wanted = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|f| f.get(1).is_some_and(|local| local.ends_with(&wanted)) && f.get(3) == Some(&LISTEN));
    ours.filter_map(|fields| fields.get(9).map(ToString::to_string)).collect()
}
