//! OCI image store, registry client, snapshots, import and export.
