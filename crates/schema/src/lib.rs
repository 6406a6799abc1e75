//! OpenAPI schemas: strict decode, list maps, merge keys, documents.
