use tokio::io::{AsyncWriteExt, duplex};
use tokio::sync::oneshot;

use super::*;
use crate::queue::{Inlet, queue};

/// Collects what is sent.
struct Collector(mpsc::UnboundedSender<(&'static str, String)>, &'static str);

impl Sink for Collector {
    async fn send(&mut self, bytes: Bytes) -> Result<(), crate::Gone> {
        self.0.send((self.1, String::from_utf8_lossy(&bytes).into_owned())).map_err(|_| crate::Gone)
    }
    async fn finish(self) {
        let _ = self.0.send((self.1, "<end>".into()));
    }
    async fn abort(self) {}
}

/// `cat` with a terminal's sizes on stderr; exits at the end of its input with 7.
fn session() -> (Session, impl Future<Output = ()>) {
    let ((stdin, mut far_in), (stdout, far_out), (stderr, mut far_err)) = (duplex(10), duplex(10), duplex(10));
    let (resize, mut sizes) = mpsc::channel::<TerminalSize>(4);
    let (exit, exited) = oneshot::channel();
    let session = Session {
        stdin: Some(Box::new(stdin)),
        stdout: Some(Box::new(stdout)),
        stderr: Some(Box::new(stderr)),
        resize,
        exit: exited,
    };
    let process = async move {
        let mut far_out = far_out;
        while let Some(size) = sizes.recv().await {
            far_err.write_all(format!("{}x{}", size.width, size.height).as_bytes()).await.unwrap();
        }
        tokio::io::copy(&mut far_in, &mut far_out).await.unwrap();
        let _ = exit.send(Ok(7));
        // A child of its keeps the output open: nobody waits for that one.
        std::future::pending::<()>().await;
    };
    (session, process)
}

#[tokio::test(start_paused = true)]
async fn a_session_tells_everything_in_order() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let sink = |name| Collector(told.clone(), name);
    let ((input, stdin), (sizes, resize)) = (queue(1000), queue(1000));
    let ends: Ends<Inlet, _> = Ends {
        stdin: Some(stdin),
        stdout: Some(sink("out")),
        stderr: Some(sink("err")),
        outcome: sink("outcome"),
        resize: Some(resize),
        is_status: true,
    };
    let (session, process) = session();
    for piece in [r#"{"Width":80,"He"#, r#"ight":24}{"Width":1"#, r#"00,"Height":50}"#] {
        sizes.push(piece.into()).await.unwrap();
    }
    drop(sizes);
    input.push("a long line of input".into()).await.unwrap();
    drop(input);
    tokio::select! {
        () = carry(ends, async { Ok(session) }, CancellationToken::new()) => {}
        () = process => {}
    }
    drop(told);
    let mut all = std::collections::BTreeMap::<_, String>::new();
    let mut last = "";
    while let Some((name, text)) = heard.recv().await {
        all.entry(name).or_default().push_str(&text);
        last = name;
    }
    assert_eq!((all["out"].as_str(), all["err"].as_str()), ("a long line of input<end>", "80x24100x50<end>"));
    assert_eq!(last, "outcome");
    assert!(all["outcome"].contains(r#"{"message":"7","reason":"ExitCode"}"#), "{}", all["outcome"]);
}

#[tokio::test]
async fn what_cannot_be_opened_is_told() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let sink = |name| Collector(told.clone(), name);
    let ends: Ends<Inlet, _> = Ends {
        stdin: None,
        stdout: Some(sink("out")),
        stderr: None,
        outcome: sink("outcome"),
        resize: None,
        is_status: false,
    };
    carry(ends, async { Err(cri::Error::unknown("no such file")) }, CancellationToken::new()).await;
    assert_eq!(heard.recv().await.unwrap(), ("out", "<end>".into()));
    assert!(heard.recv().await.unwrap().1.ends_with("error executing command in container: no such file"));
}

#[tokio::test]
async fn what_a_client_said_before_it_went_is_heard() {
    let (told, _heard) = mpsc::unbounded_channel();
    let (input, stdin) = queue(100);
    let ends: Ends<Inlet, _> = Ends {
        stdin: Some(stdin),
        stdout: None,
        stderr: None,
        outcome: Collector(told, "outcome"),
        resize: None,
        is_status: true,
    };
    let ((stdin, mut far_in), (_exit, exit)) = (duplex(1), oneshot::channel());
    let session =
        Session { stdin: Some(Box::new(stdin)), stdout: None, stderr: None, resize: mpsc::channel(1).0, exit };
    input.push("a file".into()).await.unwrap();
    drop(input);
    let gone = CancellationToken::new();
    gone.cancel();
    let mut read = String::new();
    tokio::join!(carry(ends, async { Ok(session) }, gone), async {
        tokio::io::AsyncReadExt::read_to_string(&mut far_in, &mut read).await.unwrap();
    });
    assert_eq!(read, "a file");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_ends_all() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (_input, stdin) = queue(10);
    let sink = |name| Collector(told.clone(), name);
    let ends: Ends<Inlet, _> = Ends {
        stdin: Some(stdin),
        stdout: Some(sink("out")),
        stderr: None,
        outcome: sink("outcome"),
        resize: None,
        is_status: true,
    };
    drop(told);
    let (session, process) = session();
    let gone = CancellationToken::new();
    gone.cancel();
    tokio::select! {
        () = carry(ends, async { Ok(session) }, gone) => {}
        () = process => {}
    }
    assert!(heard.recv().await.is_none(), "every sink is dropped");
}
