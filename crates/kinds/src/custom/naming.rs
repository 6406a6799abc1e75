//! Which names a definition gets, and what its conditions say: upstream's naming and establishing controllers, as one function.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::has_condition;
use crate::extensions::definition::approval_condition;
use crate::tree::{list, text};

/// The names of a group, and whose they are.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    owners: HashMap<Name, String>,
    of: HashMap<String, Vec<Name>>,
}

/// Kinds and resources do not get in each other's way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    Resource(String),
    Kind(String),
}

impl Taken {
    /// Notes the names that a definition was given, instead of those that it had.
    pub fn set(&mut self, definition: &Value) {
        let owner = text(&definition["metadata"]["name"]);
        self.remove(owner);
        let names = &definition["status"]["acceptedNames"];
        let resources = [&names["plural"], &names["singular"]].into_iter().chain(list(&names["shortNames"]));
        let resources = resources.map(|n| Name::Resource(text(n).to_owned()));
        let kinds = [&names["kind"], &names["listKind"]].into_iter().map(|n| Name::Kind(text(n).to_owned()));
        let all: Vec<Name> = resources.chain(kinds).collect();
        self.owners.extend(all.iter().map(|name| (name.clone(), owner.to_owned())));
        self.of.insert(owner.into(), all);
    }

    /// Frees the names of a definition.
    pub fn remove(&mut self, owner: &str) {
        for name in self.of.remove(owner).into_iter().flatten() {
            if self.owners.get(&name).is_some_and(|o| o == owner) {
                self.owners.remove(&name);
            }
        }
    }

    fn is_anothers(&self, name: Name, owner: &str) -> bool {
        let (Name::Resource(text) | Name::Kind(text)) = &name;
        !text.is_empty() && self.owners.get(&name).is_some_and(|o| o != owner)
    }
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

/// The status that the definition should have. `now` is for conditions that change.
pub fn decide(definition: &Value, taken: &Taken, now: &str) -> Value {
    let (wanted, had) = (&definition["spec"]["names"], &definition["status"]["acceptedNames"]);
    let owner = text(&definition["metadata"]["name"]);
    let mut accepted = had.as_object().cloned().unwrap_or_default();
    // As upstream: of several conflicts the last one is told.
    let mut refused: Option<(&str, String)> = None;
    let mut single =
        |field: &str, reason: &'static str, name: fn(String) -> Name, refused: &mut Option<(&str, String)>| {
            let wanted = text(&wanted[field]);
            match taken.is_anothers(name(wanted.to_owned()), owner) {
                true => *refused = Some((reason, in_use(wanted))),
                false => drop(accepted.insert(field.into(), wanted.into())),
            }
        };
    single("plural", "PluralConflict", Name::Resource, &mut refused);
    single("singular", "SingularConflict", Name::Resource, &mut refused);
    let short = list(&wanted["shortNames"]);
    let others = short.iter().map(text).filter(|name| taken.is_anothers(Name::Resource((*name).to_owned()), owner));
    let clash: Vec<String> = others.map(in_use).collect();
    match clash.as_slice() {
        [] => {}
        [one] => refused = Some(("ShortNamesConflict", one.clone())),
        many => refused = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    }
    single("kind", "KindConflict", Name::Kind, &mut refused);
    single("listKind", "ListKindConflict", Name::Kind, &mut refused);
    match (clash.is_empty(), short) {
        (true, []) => drop(accepted.remove("shortNames")),
        (true, short) => drop(accepted.insert("shortNames".into(), short.into())),
        (false, _) => {}
    }
    match &wanted["categories"] {
        Value::Array(all) if !all.is_empty() => drop(accepted.insert("categories".into(), all.clone().into())),
        _ => drop(accepted.remove("categories")),
    }
    let mut status = definition["status"].as_object().cloned().unwrap_or_default();
    status.insert("acceptedNames".into(), accepted.into());
    let mut conditions = list(&definition["status"]["conditions"]).to_vec();
    let ok = refused.is_none();
    match &refused {
        None => set_condition(&mut conditions, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now),
        Some((reason, why)) => set_condition(&mut conditions, "NamesAccepted", "False", reason, why, now),
    }
    // Who was established once stays so.
    if !has_condition(definition, "Established") {
        match ok {
            true => {
                let message = "the initial names have been accepted";
                set_condition(&mut conditions, "Established", "True", "InitialNamesAccepted", message, now);
            }
            false => {
                set_condition(
                    &mut conditions,
                    "Established",
                    "False",
                    "NotAccepted",
                    "not all names are accepted",
                    now,
                );
            }
        }
    }
    const APPROVAL: &str = "KubernetesAPIApprovalPolicyConformant";
    match approval_condition(definition) {
        Some((is, reason, why)) => set_condition(&mut conditions, APPROVAL, is, reason, &why, now),
        None => conditions.retain(|condition| condition["type"] != APPROVAL),
    }
    status.insert("conditions".into(), conditions.into());
    Value::Object(status)
}

/// Sets a condition; its time moves when its status does.
pub fn set_condition(conditions: &mut Vec<Value>, kind: &str, status: &str, reason: &str, message: &str, now: &str) {
    let found = conditions.iter_mut().find(|c| c["type"] == kind);
    let time = match &found {
        Some(had) if had["status"] == status => had["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    let condition =
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": time});
    match found {
        Some(had) => *had = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({"metadata": {"name": format!("{plural}.a.b")}, "spec": {"group": "a.b", "names": {"plural": plural, "singular": kind.to_lowercase(),
            "kind": kind, "listKind": format!("{kind}List"), "shortNames": short}}})
    }

    fn said(definition: &Value, taken: &Taken) -> Vec<String> {
        let status = decide(definition, taken, "t");
        list(&status["conditions"])
            .iter()
            .map(|c| {
                format!("{}={} {} {}", text(&c["type"]), text(&c["status"]), text(&c["reason"]), text(&c["message"]))
            })
            .collect()
    }

    #[test]
    fn free_names_are_given_and_kept() {
        let mut one = definition("foos", "Foo", &["f"]);
        let wanted = [
            "NamesAccepted=True NoConflicts no conflicts found",
            "Established=True InitialNamesAccepted the initial names have been accepted",
        ];
        assert_eq!(said(&one, &Taken::default()), wanted);
        one["status"] = decide(&one, &Taken::default(), "t");
        assert_eq!(decide(&one, &Taken::default(), "later"), one["status"], "nothing moves");
        assert_eq!(one["status"]["acceptedNames"]["shortNames"], json!(["f"]));
    }

    #[test]
    fn names_of_others_are_refused() {
        let mut one = definition("foos", "Foo", &["f"]);
        one["status"] = decide(&one, &Taken::default(), "t");
        let mut taken = Taken::default();
        taken.set(&one);
        let other = definition("bars", "Foo", &["f"]);
        assert_eq!(
            said(&other, &taken),
            [
                "NamesAccepted=False ListKindConflict \"FooList\" is already in use",
                "Established=False NotAccepted not all names are accepted"
            ]
        );
        let status = decide(&other, &taken, "t");
        assert_eq!(status["acceptedNames"], json!({"plural": "bars"}));
    }
}
