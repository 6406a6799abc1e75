//! Termination messages: the file that the container wrote, or the tail of its log.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use protos::cri::v1::ContainerStatus;

use super::observed::Record;
use crate::{labels, logs};

/// Most of a message that is kept.
const MOST_BYTES: u64 = 4096;
/// Most of a log that `FallbackToLogsOnError` takes.
const LOG_BYTES: usize = 2048;
const LOG_LINES: usize = 80;

/// Fills in the message of an exited container, and `StartError` for one that never ran.
pub(crate) async fn complete(record: &mut Record, status: &ContainerStatus) {
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str).unwrap_or_default();
    let inside = annotation(labels::TERMINATION_MESSAGE_PATH).to_owned();
    let on_error = annotation(labels::TERMINATION_MESSAGE_POLICY) == "FallbackToLogsOnError";
    let host = status.mounts.iter().find(|m| m.container_path == inside).map(|m| m.host_path.clone());
    let failed = status.exit_code != 0 || status.reason == "OOMKilled";
    let log = (on_error && failed).then(|| status.log_path.clone());
    // A failed read costs the message, nothing else.
    let text = tokio::task::spawn_blocking(move || read_message(host.as_deref(), log.as_deref())).await;
    let Ok(text) = text else { return };
    if !text.is_empty() {
        if !record.message.is_empty() {
            record.message.push_str(": ");
        }
        record.message.push_str(&text);
    }
}

fn read_message(file: Option<&str>, log: Option<&str>) -> String {
    let text = file.map(|path| read_tail(Path::new(path))).unwrap_or_default();
    match log {
        Some(path) if text.is_empty() => logs::tail_text(Path::new(path), LOG_LINES, LOG_BYTES),
        _ => text,
    }
}

fn read_tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
