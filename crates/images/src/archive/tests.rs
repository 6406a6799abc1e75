//! Archives as docker, containerd and OCI tools write them.

use std::fs;
use std::io::{Read as _, Write as _};

use crate::testing::{TestStore, content, sample};
use crate::{Digest, Error, Platform, Store};

fn exported(store: &Store, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut out = Vec::new();
    store.export(&names, &mut out, None).unwrap();
    out
}

/// A tar of these files, in this order.
fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        out.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    out.into_inner().unwrap()
}

fn files_of(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    };
    archive.entries().unwrap().map(read).filter(|(path, _)| !path.ends_with('/')).collect()
}

#[test]
fn what_is_exported_is_imported() {
    let from = TestStore::new();
    let image = sample(&from, "a:1", "x");
    from.tag("a:1", "localhost:5000/b:2").unwrap();
    let other = sample(&from, "c:3", "y");
    let archive = exported(&from, &["a:1", "localhost:5000/b:2", "c:3"]);
    let into = TestStore::new();
    let mut names = into.import(archive.as_slice(), &[]).unwrap();
    names.sort();
    assert_eq!(names, ["docker.io/library/a:1", "docker.io/library/c:3", "localhost:5000/b:2"]);
    assert_eq!(into.get("b:2").ok().map(|l| l.image.id), None);
    assert_eq!(into.get("localhost:5000/b:2").unwrap().image.id, image.id);
    assert_eq!(into.get("c:3").unwrap().image.id, other.id);
    assert_eq!(content(&into), (8, 4), "nothing but the images is left");
    let rootfs = into.prepare("c", "a:1").unwrap().rootfs;
    assert_eq!(fs::read_to_string(rootfs.join("etc/salt")).unwrap(), "x");
    assert_eq!(exported(&into, &["a:1", "localhost:5000/b:2", "c:3"]), archive);
}

#[test]
fn compressed_archives_and_another_name() {
    let from = TestStore::new();
    sample(&from, "a:1", "x");
    let archive = exported(&from, &["a:1"]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive).unwrap();
    let into = TestStore::new();
    let names = into.import(gzip.finish().unwrap().as_slice(), &["other".into()]).unwrap();
    assert_eq!(names, ["docker.io/library/other:latest"]);
    assert!(into.find("a:1").unwrap().is_none());
    let zstd = zstd::encode_all(archive.as_slice(), 1).unwrap();
    assert_eq!(into.import(zstd.as_slice(), &[]).unwrap(), ["docker.io/library/a:1"]);
    let two = exported(&from, &["a:1"]);
    assert!(into.import(two.as_slice(), &["Bad Name".into()]).is_err());
}

#[test]
fn old_docker_archives() {
    let from = TestStore::new();
    let image = sample(&from, "a:1", "x");
    let blob = |digest: &Digest| from.read_blob(digest).unwrap();
    let plain = |digest: &Digest| {
        let mut out = Vec::new();
        crate::layer::compression::decoder(blob(digest).as_slice()).unwrap().read_to_end(&mut out).unwrap();
        out
    };
    let list = serde_json::json!([
        {"Config": "abc.json", "RepoTags": ["old:1", "old:2"], "Layers": ["l1/layer.tar", "l2/layer.tar"]},
        {"Config": "abc.json", "RepoTags": null, "Layers": ["l1/layer.tar", "l3/layer.tar"]},
    ]);
    let files = [
        ("l1/layer.tar", plain(&image.layers[0].digest)),
        ("l2/layer.tar", plain(&image.layers[1].digest)),
        ("abc.json", blob(&image.id)),
        ("manifest.json", serde_json::to_vec(&list).unwrap()),
    ];
    // The shared layer of the second image is a link, as docker wrote it.
    let mut start = tar_of(&files);
    start.truncate(start.len() - 1024);
    let mut archive = tar::Builder::new(start);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "l3/layer.tar", "../l2/layer.tar").unwrap();
    let archive = archive.into_inner().unwrap();
    let into = TestStore::new();
    let names = into.import(archive.as_slice(), &[]).unwrap();
    assert_eq!(names[..2], ["docker.io/library/old:1", "docker.io/library/old:2"]);
    assert!(names[2].starts_with("docker.io/library/import-") && names[2].contains("@sha256:"), "{names:?}");
    assert_eq!(into.get("old:2").unwrap().image.id, image.id);
}

#[test]
fn both_lists_are_in_an_export() {
    let store = TestStore::new();
    sample(&store, "a:1", "x");
    let files = files_of(&exported(&store, &["a:1"]));
    let find = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&files.iter().find(|(path, _)| path == name).unwrap().1).unwrap()
    };
    assert_eq!(find("manifest.json")[0]["RepoTags"], serde_json::json!(["a:1"]));
    let named = &find("index.json")["manifests"][0];
    assert_eq!(named["annotations"]["io.containerd.image.name"], "docker.io/library/a:1");
    assert_eq!(named["platform"]["os"], "linux");
    assert_eq!(find("oci-layout")["imageLayoutVersion"], "1.0.0");
    let arm = Platform::parse("linux/s390x");
    let error = store.export(&["a:1".into()], Vec::new(), arm.as_ref()).unwrap_err();
    assert!(error.to_string().contains("linux/s390x"), "{error}");
    assert!(matches!(store.export(&["no:1".into()], Vec::new(), None), Err(Error::NotFound { .. })));
}

#[test]
fn an_index_of_platforms() {
    let from = TestStore::new();
    let image = sample(&from, "a:1", "x");
    let mut files = files_of(&exported(&from, &["a:1"]));
    files.retain(|(path, _)| path.starts_with("blobs/") || path == "oci-layout");
    let host = Platform::host();
    let members = |manifests: serde_json::Value| {
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": manifests})).unwrap()
    };
    let inner = members(serde_json::json!([
        {"mediaType": crate::media::OCI_MANIFEST, "digest": Digest::of(b"absent"), "size": 6, "platform": {"os": "linux", "architecture": "s390x"}},
        {"mediaType": crate::media::OCI_MANIFEST, "digest": image.manifest.digest, "size": image.manifest.size, "platform": {"os": "linux", "architecture": host.architecture}},
    ]));
    let digest = Digest::of(&inner);
    let outer = members(serde_json::json!([
        {"mediaType": crate::media::OCI_INDEX, "digest": digest, "size": inner.len(), "annotations": {"io.containerd.image.name": "r.io/multi:1"}},
    ]));
    files.push((format!("blobs/sha256/{}", digest.hex()), inner));
    files.push(("index.json".into(), outer));
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.clone())).collect();
    let archive = tar_of(&files);
    let into = TestStore::new();
    assert_eq!(into.import(archive.as_slice(), &[]).unwrap(), ["r.io/multi:1"]);
    assert_eq!(into.get("r.io/multi:1").unwrap().image.id, image.id);
    assert_eq!(into.names().unwrap()[0].1.target.digest, digest);
    assert_eq!(content(&into), (5, 2));
    let none = Platform::parse("linux/riscv64").unwrap();
    assert!(matches!(into.import_for(archive.as_slice(), &[], &none), Err(Error::Platform { .. })));
}

#[test]
fn bad_archives_leave_nothing() {
    let from = TestStore::new();
    sample(&from, "a:1", "x");
    let good = exported(&from, &["a:1"]);
    let into = TestStore::new();
    let refused = |archive: &[u8], words: &str| {
        let error = into.import(archive, &[]).unwrap_err();
        let text = base::Chain(&error).to_string();
        assert!(text.contains(words), "{text}");
        into.prune().unwrap();
        assert_eq!(content(&into), (0, 0));
    };
    refused(b"", "neither index.json");
    refused(b"this is no tar, and long enough to show it".repeat(40).as_slice(), "");
    refused(&good[..good.len() / 2], "");
    refused(&tar_of(&[("index.json", b"{".to_vec())]), "cannot read");
    refused(&tar_of(&[("manifest.json", b"[]".to_vec())]), "no images");
    // A blob that is not what its name says.
    let mut files = files_of(&good);
    let layer = files.iter_mut().find(|(path, bytes)| path.starts_with("blobs/") && bytes[0] == 0x1f).unwrap();
    layer.1[20] ^= 1;
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.clone())).collect();
    refused(&tar_of(&files), "not found");
}

#[test]
fn the_directory_is_imported_once() {
    let from = TestStore::new();
    sample(&from, "a:1", "x");
    sample(&from, "b:1", "y");
    let dir = tempfile::tempdir().unwrap();
    let into = TestStore::new();
    assert!(into.import_dir(&dir.path().join("absent")).unwrap().is_empty());
    fs::write(dir.path().join("1.tar"), exported(&from, &["a:1"])).unwrap();
    fs::write(dir.path().join("2.tar.zst"), zstd::encode_all(exported(&from, &["b:1"]).as_slice(), 1).unwrap())
        .unwrap();
    fs::write(dir.path().join("3.tar"), "broken").unwrap();
    fs::write(dir.path().join("readme.txt"), "not an archive").unwrap();
    let names = || -> Vec<Option<Vec<String>>> {
        into.import_dir(dir.path()).unwrap().into_iter().map(|file| file.names.ok()).collect()
    };
    let (a, b) = (vec!["docker.io/library/a:1".to_owned()], vec!["docker.io/library/b:1".to_owned()]);
    assert_eq!(names(), [Some(a.clone()), Some(b.clone()), None]);
    assert!(into.get("a:1").unwrap().image.pinned);
    assert_eq!(names(), [Some(vec![]), Some(vec![]), None]);
    into.remove_image("b:1").unwrap();
    fs::write(dir.path().join("1.tar"), exported(&from, &["a:1", "b:1"])).unwrap();
    let both = [a, b].concat();
    assert_eq!(names(), [Some(both.clone()), Some(vec![]), None], "a changed archive is imported again");
    into.remove_image("b:1").unwrap();
    assert_eq!(names(), [Some(both), Some(vec![]), None], "what was removed is imported again");
}
