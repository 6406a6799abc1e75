//! What upstream has stored opens here; keys change; what does not open says so.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// ConfigMaps as upstream v1.36.2 has stored them in etcd, under a key of 32 times `a`.
const STORED: [(&str, &str); 3] = [
    (
        "/registry/configmaps/default/v-27477",
        "azhzOmVuYzphZXNnY206djE6a2V5MTp/GfNI8x+poliRROYiWI/w3Hj2uE+rVf8LggnVpzFiSeEY7qRsz+ygim0gdLLV48+GYtuUWry0O8myRcNE3xY3vVCV+qkI/R9LxjOtXZZysCWlXlZYJE4CbxdpgB3OXS2LuH0i84zLzyPThkejDfuyciZsLvNeYgLMEB+0OTjG5ixO7Ge59f7pYSivC8Eess5S4rCnzPIKBxOx0Zj+8TKsrWpU7yLIwYPs64N+KtzeBqGMJAj9aTGJaNwiaEYp8rvvqlUk251c5ZG/SODYyMxrh1Q5napI1BMI+b+dQTewSmdO",
    ),
    (
        "/registry/configmaps/default/v-11620",
        "azhzOmVuYzphZXNjYmM6djE6a2V5MToBDr2wfR6Z6Q44kXwEwdxKNqym+zObzeWgsV90wzF6SUQiM20r/3jah+EswdBmawvOwN4SZDwE2wp6w4LhC26d0f5MS1HlJpihlsNXQPoHFAjZY0gOS3jQonno8bEtiFRJX7ORrmfnYI0hjOj16t43rL/walVvkbeoqobfEuTpghHT23DwAPrAcJ1hkOC+lgJhmcv90ISfvFT3QKa+MlU8apctcwKcx8gCiD8ZjnWaZ1jnY7vBCSX4uAIZFl4y/ppvc0uALbvh5EUyMRg4fXH8i81xopTC0igPrvwu2huh6A==",
    ),
    (
        "/registry/configmaps/default/v-12378",
        "azhzOmVuYzpzZWNyZXRib3g6djE6a2V5MTqwjOhVQb1kaZVcu11BQH1Do3TvMf5aIZb6nWQdifZj6YRc6aidBdzIJibp4vvbrc5jYhXovW5kKRz0SV8mTrRTqNUhD8NIRcmbV+/Rsw5dq/NwNRUqR+mzuxivDOw09ZIbDosZO/I/zGWIbEZoDJBAVDqNui3ioo8SudU265tSyF9TGvlqgZ6vAhFwb2YPmTY80BeanNnv77Nf2HH8W7rw7xi9TROulWgIMt6cbTOyA3fK6UqcdWa75aDDOAlUTolZ3AkBdE0zhwehXSNeWprI+cMLom5sjWCcbGfRp9Wk+N3TSz19+uNoIV58P0Br",
    ),
];

fn key(letter: char) -> String {
    STANDARD.encode(letter.to_string().repeat(32))
}

fn provider(kind: &str, keys: &[(&str, char)]) -> String {
    let keys: Vec<String> =
        keys.iter().map(|(name, letter)| format!("{{name: {name}, secret: {}}}", key(*letter))).collect();
    format!("  - {kind}: {{keys: [{}]}}\n", keys.join(", "))
}

fn file(rules: &[(&str, &str)]) -> String {
    let rules =
        rules.iter().map(|(resources, providers)| format!("- resources: [{resources}]\n  providers:\n{providers}"));
    let rules: String = rules.collect();
    format!("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n{rules}")
}

fn load(text: &str) -> Encryption {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encryption.yaml");
    std::fs::write(&path, text).unwrap();
    Encryption::load(&path, false).unwrap()
}

fn refused(text: &str) -> String {
    match config::parse(text) {
        Err(config::Error::Decoding(why) | config::Error::Invalid(why)) => why,
        Ok(_) => panic!("taken: {text}"),
    }
}

#[test]
fn what_upstream_has_stored_opens() {
    for ((place, stored), kind) in STORED.iter().zip(["aesgcm", "aescbc", "secretbox"]) {
        let encryption = load(&file(&[("configmaps", &provider(kind, &[("key1", 'a')]))]));
        let stored = STANDARD.decode(stored).unwrap();
        let (value, form) = encryption.open(place, &stored).unwrap();
        assert!(value.starts_with(b"k8s\0"), "protobuf, as upstream has it");
        assert_eq!(&*form, format!("k8s:enc:{kind}:v1:key1:"));
        let sealed = encryption.seal(place, &value).unwrap();
        assert_eq!(encryption.open(place, &sealed).unwrap().0, value);
        assert_ne!(sealed, encryption.seal(place, &value).unwrap(), "never twice the same");
        let elsewhere = encryption.open("/registry/configmaps/default/other", &sealed);
        assert_eq!(elsewhere.is_err(), kind == "aesgcm", "its place is part of what is authenticated");
        let mut torn = sealed.clone();
        torn.pop();
        assert!(encryption.open(place, &torn).is_err());
        for cut in 0..sealed.len().min(80) {
            assert!(encryption.open(place, &sealed[..cut]).is_err() || !sealed[..cut].starts_with(b"k8s:enc:"));
        }
    }
}

#[test]
fn keys_rotate_and_resources_are_found() {
    let identity = "  - identity: {}\n";
    let old = load(&file(&[("secrets", &(provider("aescbc", &[("a", 'a')]) + identity))]));
    let place = "/registry/secrets/default/s";
    let sealed = old.seal(place, b"{}").unwrap();
    let turned = load(&file(&[("secrets", &(provider("aesgcm", &[("b", 'b')]) + &provider("aescbc", &[("a", 'a')])))]));
    assert_eq!(turned.open(place, &sealed).unwrap().0, b"{}");
    assert_eq!(&*turned.form(place), "k8s:enc:aesgcm:v1:b:");
    let lost = load(&file(&[("secrets", &(provider("aescbc", &[("z", 'a')]) + identity))]));
    let why = lost.open(place, &sealed).unwrap_err();
    assert_eq!(why, "no matching key was found for the provided AES transformer");
    let other = load(&file(&[("secrets", identity)]));
    assert_eq!(other.open(place, &sealed).unwrap_err(), "no matching prefix found");
    assert_eq!(other.open(place, b"{}").unwrap().0, b"{}");
    assert!(other.open("/registry/configmaps/default/s", &sealed).unwrap_err().starts_with("identity transformer"));

    let sealing = provider("secretbox", &[("k", 'a')]);
    let wide = load(&file(&[
        ("events, leases.coordination.k8s.io", identity),
        ("'*.apps', pandas.bears.example", &sealing),
        ("'*.'", &provider("aescbc", &[("core", 'c')])),
        ("'*.*'", &provider("aesgcm", &[("rest", 'r')])),
    ]));
    let form = |place: &str| wide.form(place).trim_start_matches("k8s:enc:").to_owned();
    assert_eq!(form("/registry/events/default/e"), "");
    assert_eq!(form("/registry/leases/kube-node-lease/n"), "");
    assert_eq!(form("/registry/deployments/default/d"), "secretbox:v1:k:");
    assert_eq!(form("/registry/bears.example/pandas/default/p"), "secretbox:v1:k:");
    assert_eq!(form("/registry/bears.example/cubs/default/p"), "aesgcm:v1:rest:");
    assert_eq!(form("/registry/services/specs/default/s"), "aescbc:v1:core:");
    assert_eq!(form("/registry/apiextensions.k8s.io/customresourcedefinitions/x"), "aesgcm:v1:rest:");
    assert_eq!(form("/registry/ranges/services"), "");
}

#[test]
fn bad_files_are_refused_in_upstreams_words() {
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";
    assert_eq!(refused(head), "resources: Required value: at least one resources is required");
    let empty = format!("{head}resources:\n- resources: []\n  providers: []\n");
    assert_eq!(
        refused(&empty),
        "[resources[0].resources: Required value: at least one resources[0].resources is required, resources[0].providers: Required value: at least one resources[0].providers is required]"
    );
    let short = file(&[("secrets", "  - secretbox: {keys: [{name: x, secret: AAAA}]}\n")]);
    assert_eq!(
        refused(&short),
        "resources[0].providers[0].secretbox.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 3, expected one of [32]"
    );
    let unknown = file(&[("secrets", "  - identity: {}\n  - rot13: {}\n  foo: bar\n")]);
    let why = refused(&unknown);
    assert!(
        why.starts_with("strict decoding error: ") && why.contains("unknown field \"resources[0].providers[1].rot13\"")
    );
    let masked = file(&[("'*.'", "  - identity: {}\n"), ("secrets", "  - identity: {}\n")]);
    assert_eq!(refused(&masked), "resource \"secrets\" is masked by earlier rule \"*.\"");
    for (resources, part) in [
        ("secrets, secrets", "the same resource cannot be specified multiple times"),
        ("secrets, '*.'", "using overlapping resources"),
        ("'*'", "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"),
        ("events.events.k8s.io", "Use 'events' instead in the config file"),
        ("Secrets", "resource name should not contain capital letters"),
    ] {
        let why = refused(&file(&[(resources, "  - identity: {}\n")]));
        assert!(why.contains(part), "{resources}: {why}");
    }
    let kms = refused(&file(&[("secrets", "  - kms: {name: k, endpoint: 'unix:///x', apiVersion: v2}\n")]));
    assert!(kms.contains("not supported"), "{kms}");
}
