#![no_main]
use libfuzzer_sys::fuzz_target;
use object::patch::{FieldSet, PathElement};
use object::{FieldSelector, JsonPath, LabelSelector, Quantity};

fuzz_target!(|text: &str| {
    let _ = LabelSelector::parse(text);
    let _ = FieldSelector::parse(text);
    let _ = JsonPath::parse(text);
    let _ = PathElement::parse(text);
    if let Some(canonical) = Quantity::canonical(text) {
        assert_eq!(Quantity::canonical(&canonical).as_ref(), Some(&canonical), "{text}");
    }
    let Ok(value) = serde_json::from_str(text) else { return };
    if let Ok(set) = FieldSet::from_value(&value) {
        let written = set.to_value();
        assert_eq!(FieldSet::from_value(&written).map(|set| set.to_value()), Ok(written));
    }
});
