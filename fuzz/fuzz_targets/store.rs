#![no_main]
//! A store's file with some bytes changed, or cut short: it is refused, or all is there as it was written.
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use object::Draft;
use store::{Backend, Embedded, Op, Options, StoreError, Txn};

/// A good store's directory, and the contents of its file.
struct Good {
    dir: PathBuf,
    file: PathBuf,
    bytes: Vec<u8>,
    objects: Vec<(Arc<str>, Vec<u8>)>,
    revision: u64,
}

fn put(key: &str, data: &str) -> Txn {
    let text = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"c"}},"data":{{"x":"{data}"}}}}"#);
    Txn { compares: Vec::new(), ops: vec![Op::Put(key.into(), Draft::from_bytes(text.as_bytes()).expect("an object"))] }
}

fn commit(store: &Embedded, txn: Txn) -> std::result::Result<(), StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(store.commit(txn)).map(drop)
}

fn read(store: &Embedded) -> Vec<(Arc<str>, Vec<u8>)> {
    let page = store.range("/registry/", None, usize::MAX, 0).expect("the newest is there");
    page.items.into_iter().map(|v| (v.key, v.object.body.to_vec())).collect()
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        // libFuzzer's hook ends the process at every panic; the store catches those of its database.
        std::panic::set_hook(Box::new(|_| {}));
        let dir = std::env::temp_dir().join(format!("navarch-fuzz-store-{}", std::process::id()));
        let store = Embedded::open(&dir, Options::default()).expect("a new store");
        for n in 0..40 {
            commit(&store, put(&format!("/registry/configmaps/default/c{n}"), &"x".repeat(n * 30))).expect("it is new");
        }
        let (objects, revision) = (read(&store), store.revision());
        drop(store);
        let found = std::fs::read_dir(&dir).expect("it is there").flatten().map(|e| e.path());
        let file = found.max_by_key(|p| p.metadata().map_or(0, |m| m.len())).expect("a file");
        Good { bytes: std::fs::read(&file).expect("readable"), dir, file, objects, revision }
    })
}

fn damaged(u: &mut Unstructured<'_>, good: &Good) -> Result<Vec<u8>> {
    let mut bytes = good.bytes.clone();
    for _ in 0..u.int_in_range(1..=8)? {
        // Where something is written, mostly: the file has long stretches of zeros.
        let mut at = u.int_in_range(0..=bytes.len() - 1)?;
        if u.ratio(7, 8)? {
            at = (0..bytes.len()).map(|n| (at + n) % bytes.len()).find(|n| good.bytes[*n] != 0).unwrap_or(at);
        }
        match u.int_in_range(0..=3)? {
            0 => bytes[at] ^= 1 << u.int_in_range(0..=7)?,
            1 => bytes[at] = u.arbitrary()?,
            2 => bytes[at..].iter_mut().take(512).for_each(|b| *b = 0),
            _ => {
                let from = u.int_in_range(0..=bytes.len() - 1)? & !511;
                let page: Vec<u8> = bytes[from..].iter().take(4096).copied().collect();
                let room = bytes.len() - (at & !511);
                bytes[at & !511..].iter_mut().zip(page.iter().take(room)).for_each(|(b, p)| *b = *p);
            }
        }
    }
    if u.ratio(1, 8)? {
        bytes.truncate(u.int_in_range(0..=bytes.len())?);
    }
    Ok(bytes)
}

fn open(dir: &Path) -> Option<Embedded> {
    match Embedded::open(dir, Options::default()) {
        Ok(store) => Some(store),
        Err(StoreError::Corrupt(_) | StoreError::Io { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn run(data: &[u8]) -> Result<()> {
    let (u, good) = (&mut Unstructured::new(data), good());
    std::fs::write(&good.file, damaged(u, good)?).expect("room");
    let Some(store) = open(&good.dir) else { return Ok(()) };
    assert_eq!(store.revision(), good.revision, "no revision is given out twice");
    assert_eq!(read(&store), good.objects, "what is read was written");
    // What cannot be written into a damaged file is told.
    let written = commit(&store, put("/registry/configmaps/default/new", "")).is_ok();
    drop(store);
    if let Some(store) = open(&good.dir).filter(|_| written) {
        assert_eq!(read(&store).len(), good.objects.len() + 1, "what is acknowledged stays");
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data);
});
