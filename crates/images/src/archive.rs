//! Archives: `docker save` and OCI layouts, as tar, gzip or zstd, in and out.

mod directory;
mod export;
mod import;
#[cfg(test)]
mod tests;

pub use directory::ImportedFile;
