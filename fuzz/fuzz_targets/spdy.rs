#![no_main]
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use streaming::spdy::{Connection, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

fuzz_target!(|data: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (near, mut far) = duplex(1 << 16);
        let mut connection = Connection::new(near, Role::Server).expect("a connection");
        let _ = far.write_all(data).await;
        let _ = far.shutdown().await;
        let mut said = Vec::new();
        let reading = async { while let Some(_stream) = connection.accept().await {} };
        let hearing = far.read_to_end(&mut said);
        let _ = tokio::time::timeout(Duration::from_millis(20), async { tokio::join!(reading, hearing) }).await;
    });
});
