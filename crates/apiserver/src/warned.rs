//! Warnings of a request, for the case that it fails: a reply says its own, a failure those that were said on the way to it.

use std::cell::RefCell;

use object::Status;

tokio::task_local! {
    /// What was said about the request that this task handles.
    static SAID: RefCell<Vec<String>>;
}

/// Keeps warnings in mind.
pub(crate) fn note(warnings: &[String]) {
    // Not within a request over HTTP: nobody hears it.
    let _ = SAID.try_with(|said| said.borrow_mut().extend_from_slice(warnings));
}

/// Says warnings in the reply, and keeps them in mind.
pub(crate) fn tell(said: impl IntoIterator<Item = String>, warnings: &mut Vec<String>) {
    let known = warnings.len();
    warnings.extend(said);
    note(&warnings[known..]);
}

/// Does the work of a write; a failure has what was said meanwhile.
pub(crate) async fn heard<T>(work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    // Writes are large: what surrounds them need not be.
    let work = Box::pin(work);
    let scope = SAID.scope(RefCell::default(), async {
        let done = work.await;
        done.map_err(|status| Status { warnings: SAID.with(RefCell::take), ..status })
    });
    scope.await
}
