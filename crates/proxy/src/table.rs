//! All fronts of all services, and what changes in the kernel when one service does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::fronts::{Front, Target};

/// What the kernel must forget and then learn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Fronts to remove, with the targets that the kernel has for them.
    pub removed: Vec<(Front, Target)>,
    /// Fronts to add.
    pub added: Vec<(Front, Target)>,
    /// Backend addresses that are no longer backends.
    pub hairpins_removed: BTreeSet<Ipv4Addr>,
    /// Backend addresses that became backends: a pod that reaches itself through a service must be masqueraded.
    pub hairpins_added: BTreeSet<Ipv4Addr>,
}

impl Delta {
    /// True when the kernel needs nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The wanted state: who claims which front. When two services claim one front (external IPs), the first by name has it.
#[derive(Debug, Default)]
pub struct Table {
    claims: BTreeMap<Front, BTreeMap<String, Target>>,
    by_service: BTreeMap<String, BTreeSet<Front>>,
    /// Address -> number of backends with it among the effective targets.
    hairpins: BTreeMap<Ipv4Addr, usize>,
}

impl Table {
    /// Replaces what service `key` claims; what the kernel must do for it.
    pub fn replace(&mut self, key: &str, fronts: BTreeMap<Front, Target>) -> Delta {
        let before = self.by_service.remove(key).unwrap_or_default();
        let touched: BTreeSet<Front> = before.iter().copied().chain(fronts.keys().copied()).collect();
        if !fronts.is_empty() {
            self.by_service.insert(key.into(), fronts.keys().copied().collect());
        }
        let mut fronts = fronts;
        let mut delta = Delta::default();
        let mut counts_before: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
        for front in touched {
            let claims = self.claims.entry(front).or_default();
            let old = claims.values().next().cloned();
            claims.remove(key);
            if let Some(target) = fronts.remove(&front) {
                claims.insert(key.into(), target);
            }
            let new = claims.values().next().cloned();
            if claims.is_empty() {
                self.claims.remove(&front);
            }
            if old == new {
                continue;
            }
            for target in [&old, &new].into_iter().flatten() {
                for (ip, _) in &target.backends {
                    counts_before.entry(*ip).or_insert_with(|| self.hairpins.get(ip).copied().unwrap_or(0));
                }
            }
            if let Some(old) = old {
                self.count(&old, false);
                delta.removed.push((front, old));
            }
            if let Some(new) = new {
                self.count(&new, true);
                delta.added.push((front, new));
            }
        }
        for (ip, before) in counts_before {
            match (before > 0, self.hairpins.contains_key(&ip)) {
                (true, false) => drop(delta.hairpins_removed.insert(ip)),
                (false, true) => drop(delta.hairpins_added.insert(ip)),
                _ => {}
            }
        }
        delta
    }

    fn count(&mut self, target: &Target, add: bool) {
        for (ip, _) in &target.backends {
            let count = self.hairpins.entry(*ip).or_default();
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.hairpins.remove(ip);
            }
        }
    }

    /// Everything, as a delta from nothing.
    pub fn full(&self) -> Delta {
        let effective =
            |(front, claims): (&Front, &BTreeMap<String, Target>)| Some((*front, claims.values().next()?.clone()));
        Delta {
            added: self.claims.iter().filter_map(effective).collect(),
            hairpins_added: self.hairpins.keys().copied().collect(),
            ..Delta::default()
        }
    }

    /// Services that claim something.
    pub fn services(&self) -> Vec<String> {
        self.by_service.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fronts::Protocol;
    use proptest::prelude::*;

    /// What a kernel that obeys the deltas would hold.
    #[derive(Default, PartialEq, Eq, Debug)]
    struct Kernel {
        fronts: BTreeMap<Front, Target>,
        hairpins: BTreeSet<Ipv4Addr>,
    }

    impl Kernel {
        fn apply(&mut self, delta: Delta) {
            for (front, target) in delta.removed {
                assert_eq!(self.fronts.remove(&front), Some(target), "removes only what is there");
            }
            for (front, target) in delta.added {
                assert!(self.fronts.insert(front, target).is_none(), "adds only what is absent");
            }
            for ip in delta.hairpins_removed {
                assert!(self.hairpins.remove(&ip));
            }
            for ip in delta.hairpins_added {
                assert!(self.hairpins.insert(ip));
            }
        }
    }

    fn fronts() -> impl Strategy<Value = BTreeMap<Front, Target>> {
        let front = (0..4u8, 80..82u16)
            .prop_map(|(ip, port)| Front::Address(Ipv4Addr::new(10, 43, 0, ip), Protocol::Tcp, port));
        let backends = proptest::collection::btree_set(0..4u8, 1..4);
        let target = (backends, any::<bool>()).prop_map(|(ips, by_client)| Target {
            backends: ips.into_iter().map(|ip| (Ipv4Addr::new(10, 42, 0, ip), 80)).collect(),
            by_client,
            masquerade: false,
        });
        proptest::collection::btree_map(front, target, 0..4)
    }

    proptest! {
        #[test]
        fn deltas_add_up_to_a_full_rebuild(changes in proptest::collection::vec((0..3u8, fronts()), 1..20)) {
            let (mut table, mut kernel) = (Table::default(), Kernel::default());
            for (service, fronts) in changes {
                kernel.apply(table.replace(&format!("ns/s{service}"), fronts));
            }
            let mut rebuilt = Kernel::default();
            rebuilt.apply(table.full());
            prop_assert_eq!(kernel, rebuilt);
        }
    }
}
