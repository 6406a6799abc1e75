//! A world made of given objects, for tests of decisions.

use std::sync::Arc;

use client::Lister;
use object::Object;
use serde_json::Value;

use crate::kinds::ALL;
use crate::world::{Caches, World};
use crate::{Controller, Options, Plan};

/// `2026-02-01T00:00:00Z`.
pub const NOW: i64 = 1_769_904_000;

/// Objects at a time.
pub struct Scene {
    caches: Caches,
    pub options: Options,
    pub now: i64,
}

impl Scene {
    pub fn new(objects: Vec<Value>) -> Self {
        let mut caches = Caches::default();
        for kind in ALL {
            let of_kind = objects.iter().enumerate().filter(|(_, o)| o["kind"] == kind.kind);
            let lister: Lister = of_kind
                .map(|(at, value)| {
                    let mut value = value.clone();
                    let meta = value["metadata"].as_object_mut().unwrap();
                    meta.entry("uid").or_insert_with(|| format!("uid-{}", meta_name(&objects[at])).into());
                    meta.entry("resourceVersion").or_insert_with(|| (at + 1).to_string().into());
                    meta.entry("creationTimestamp").or_insert("2026-01-01T00:00:00Z".into());
                    Arc::new(Object::from_value(&value).unwrap())
                })
                .collect();
            caches.insert(kind, lister);
        }
        Self { caches, options: Options::default(), now: NOW }
    }

    pub fn world(&self) -> World {
        World::new(self.caches.clone(), Arc::new(self.options.clone()), self.now)
    }

    pub fn plan(&self, controller: &Controller, key: &str) -> Plan {
        self.plan_after(controller, key, None)
    }

    pub fn plan_after(&self, controller: &Controller, key: &str, failure: Option<crate::world::Failure>) -> Plan {
        let world = self.world().after(failure);
        match world.get(controller.of, key) {
            Some(object) => (controller.reconcile)(&object, &world),
            None => (controller.gone)(key, &world),
        }
    }
}

fn meta_name(value: &Value) -> &str {
    value["metadata"]["name"].as_str().unwrap()
}
