//! Files of settings that are read again while the server runs: encryption, issuers of tokens, authorizers.

use std::path::Path;
use std::time::Duration;

/// How often a file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Hands the text of a file to `take` whenever it changes; `first` is what was read before. A file that is no good leaves what was.
/// Never ends.
pub(crate) async fn follow(path: &Path, first: &str, what: &str, mut take: impl FnMut(&str) -> Result<(), String>) {
    let mut seen = first.as_bytes().to_vec();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = tokio::fs::read(path).await.unwrap_or_default();
        if now == seen {
            continue;
        }
        match take(std::str::from_utf8(&now).unwrap_or("")) {
            Ok(()) => tracing::info!(path = %path.display(), "the {what} is reloaded"),
            Err(error) => tracing::error!(error, "the {what} stays as it was"),
        }
        seen = now;
    }
}
