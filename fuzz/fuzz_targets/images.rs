#![no_main]
//! What registries and archives say: references, documents, challenges, layers. Unpacks into the directory for temporary files.
use images::fuzzing::{challenge, unpack};
use images::{ImageFile, Index, Manifest, Platform, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (text, layer) = input;
    if let Ok(reference) = Reference::parse(text) {
        assert_eq!(Reference::parse(&reference.to_string()).map(|r| r.to_string()).ok(), Some(reference.to_string()));
    }
    challenge(text);
    let _ = Platform::parse(text);
    let _ = serde_json::from_str::<Manifest>(text);
    let _ = serde_json::from_str::<ImageFile>(text);
    if let Ok(index) = serde_json::from_str::<Index>(text) {
        index.select(&Platform::host());
    }
    if layer.len() >= 512 {
        let into = std::env::temp_dir().join(format!("navarch-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&into).expect("a directory");
        unpack(layer, &into);
        std::fs::remove_dir_all(&into).expect("it is ours");
    }
});
