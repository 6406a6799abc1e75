//! Rooms of the core group, and of what grew out of it.

pub(crate) mod claim;
pub(crate) mod componentstatus;
pub(crate) mod configmap;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod limitrange;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod podspec;
pub(crate) mod podtemplate;
pub(crate) mod resourcequota;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod serviceaccount;
pub(crate) mod volume;
