//! Pure RBAC authorizer.
