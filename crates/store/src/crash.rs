//! Kills and damage: what was acknowledged is there afterwards, or the start is refused.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::contract::{key, put};
use crate::*;

const DIRECTORY: &str = "NAVARCH_STORE_CRASH_DIR";

fn open(dir: &Path) -> Result<Embedded, StoreError> {
    Embedded::open(dir, Options::default())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Not a test of its own: the process that `kill_at_random_points` starts and kills. It writes as fast as it can and
/// prints each write once it was acknowledged.
#[test]
fn writer_child() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let store = open(Path::new(&dir)).unwrap();
    let round = store.revision();
    let mut out = std::io::stdout();
    runtime().block_on(async {
        for batch in 0u64.. {
            let writes = (0..8).map(|n| {
                let name = format!("r{round}-{batch}-{n}");
                let store = &store;
                async move { store.commit(put(&name, "payload")).await.map(|done| (name, done.revision)) }
            });
            for done in futures::future::join_all(writes).await {
                let (name, revision) = done.unwrap();
                writeln!(out, "ack {name} {revision}").unwrap();
            }
            out.flush().unwrap();
        }
    });
}

#[test]
fn kill_at_random_points() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(String, u64)> = Vec::new();
    for round in 0..10u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::writer_child", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Somewhere within the load: after a number of acknowledgements that differs from round to round.
        let enough = 20 + (round * 37) % 150;
        let mut count = 0;
        for line in lines.by_ref().map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["ack", name, revision] = words[..] {
                acknowledged.push((name.into(), revision.parse().unwrap()));
                count += 1;
                if count == enough {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(count >= enough, "round {round}: the child wrote only {count}");
        let store = open(dir.path()).unwrap();
        for (name, revision) in &acknowledged {
            let found = store.get(&key(name)).unwrap_or_else(|| panic!("round {round}: {name} is lost"));
            assert_eq!(found.mod_revision, *revision, "round {round}: {name}");
        }
    }
}

/// A store with some objects, closed; and what was acknowledged.
fn filled(dir: &Path) -> Vec<(String, u64)> {
    let store = open(dir).unwrap();
    let written = runtime().block_on(async {
        let mut written = Vec::new();
        for n in 0..200 {
            let name = format!("n{n}");
            let done = store.commit(put(&name, &"x".repeat(300))).await.unwrap();
            written.push((name, done.revision));
        }
        written
    });
    drop(store);
    written
}

/// Refused with words, or everything is there.
fn refused_or_whole(dir: &Path, written: &[(String, u64)], what: &str) -> bool {
    match open(dir) {
        Err(StoreError::Corrupt(why)) => {
            assert!(!why.is_empty());
            true
        }
        Err(other) => panic!("{what}: refused without saying that the file is damaged: {other:?}"),
        Ok(store) => {
            for (name, revision) in written {
                assert_eq!(store.get(&key(name)).map(|v| v.mod_revision), Some(*revision), "{what}: {name}");
            }
            false
        }
    }
}

#[test]
fn flipped_bits() {
    let dir = tempfile::tempdir().unwrap();
    let written = filled(dir.path());
    let file = dir.path().join("state.redb");
    let good = fs::read(&file).unwrap();
    let mut refused = 0;
    for n in 0..60usize {
        let at = (n * 7919 + 13) * 4099 % good.len();
        let mut bad = good.clone();
        bad[at] ^= 1 << (n % 8);
        fs::write(&file, &bad).unwrap();
        refused += usize::from(refused_or_whole(dir.path(), &written, &format!("bit {} of byte {at}", n % 8)));
    }
    assert!(refused > 0, "some of these bits are data");
}

#[test]
fn torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let written = filled(dir.path());
    let file = dir.path().join("state.redb");
    let good = fs::read(&file).unwrap();
    for keep in [0, 1, 511, 4096, good.len() / 3, good.len() / 2, good.len() - 1] {
        fs::write(&file, &good[..keep]).unwrap();
        refused_or_whole(dir.path(), &written, &format!("the first {keep} bytes"));
    }
    fs::write(&file, &good).unwrap();
    assert!(!refused_or_whole(dir.path(), &written, "the whole file"));
}

#[test]
fn a_revision_that_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let written = filled(dir.path());
    let newest = open(dir.path()).unwrap().revision();
    let meta = redb::TableDefinition::<'_, &str, u64>::new("meta");
    let change = |rows: &[(&str, Option<u64>)]| {
        let database = redb::Database::open(dir.path().join("state.redb")).unwrap();
        let write = database.begin_write().unwrap();
        for (key, value) in rows {
            let mut table = write.open_table(meta).unwrap();
            match value {
                Some(value) => table.insert(key, value).map(drop).unwrap(),
                None => table.remove(key).map(drop).unwrap(),
            }
        }
        write.commit().unwrap();
    };
    change(&[("revision", Some(newest + 1))]);
    assert!(refused_or_whole(dir.path(), &written, "another revision"));
    change(&[("revision", Some(newest))]);
    assert!(!refused_or_whole(dir.path(), &written, "the revision"));
    change(&[("check", None)]);
    assert!(refused_or_whole(dir.path(), &written, "no checksum"));
    change(&[("format", Some(1))]);
    let store = open(dir.path()).expect("format 1 had none");
    runtime().block_on(store.commit(put("after", "x"))).unwrap();
    drop(store);
    change(&[("revision", Some(newest))]);
    assert!(refused_or_whole(dir.path(), &written, "format 2 since the first write"));
}

/// A file size limit stands in for a full disk: the write fails, nothing of it is kept, and later writes work again.
#[test]
fn full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::full_disk_child", "--nocapture"])
        .env(DIRECTORY, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("refused, then went on"), "{text}");
}

/// The process of `full_disk`: the limit is the process's own.
#[test]
fn full_disk_child() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::signal::{SigHandler, Signal, signal};
    let Some(dir) = std::env::var_os(DIRECTORY).map(std::path::PathBuf::from) else { return };
    let written = filled(&dir);
    let store = open(&dir).unwrap();
    let size = fs::metadata(dir.join("state.redb")).unwrap().len();
    let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    #[allow(unsafe_code)]
    // SAFETY: ignoring a signal installs no handler code.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, size, most).unwrap();
    let refused = runtime().block_on(async {
        for n in 0..200 {
            let name = format!("big{n}");
            if let Err(error) = store.commit(put(&name, &"x".repeat(500_000))).await {
                assert!(matches!(error, StoreError::Io { .. }), "{error}");
                assert!(store.get(&key(&name)).is_none(), "nothing of a failed write is visible");
                return true;
            }
        }
        false
    });
    assert!(refused, "the limit was never reached");
    for (name, revision) in &written {
        assert_eq!(store.get(&key(name)).map(|v| v.mod_revision), Some(*revision), "reads go on");
    }
    setrlimit(Resource::RLIMIT_FSIZE, most, most).unwrap();
    runtime().block_on(store.commit(put("after", "x"))).unwrap();
    println!("refused, then went on");
}
