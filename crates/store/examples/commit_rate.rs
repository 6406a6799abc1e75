//! How many durable creates a second the embedded store takes: `commit_rate [clients] [creates] [bytes]`.
#![allow(clippy::print_stdout)]

use std::error::Error;

use object::Draft;
use store::{Backend, Compare, Embedded, Op, Options, Txn};
use tokio::time::Instant;

fn create(number: usize, data: &str) -> Result<Txn, Box<dyn Error>> {
    let name = format!("c{number}");
    let key: std::sync::Arc<str> = format!("/registry/configmaps/default/{name}").into();
    let mut value = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"}, "data": {"x": data}});
    Ok(Txn { compares: vec![Compare::Absent(key.clone())], ops: vec![Op::Put(key, Draft::new(&mut value)?)] })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let clients = numbers.next().transpose()?.unwrap_or(50);
    let creates = numbers.next().transpose()?.unwrap_or(20_000);
    let data = "x".repeat(numbers.next().transpose()?.unwrap_or(1024));
    let dir = tempfile::tempdir()?;
    let store = Embedded::open(dir.path(), Options::default())?;
    let started = Instant::now();
    let client = async |first: usize| -> Result<Vec<u128>, Box<dyn Error>> {
        let mut took = Vec::new();
        for number in (first..creates).step_by(clients) {
            let before = Instant::now();
            store.commit(create(number, &data)?).await?;
            took.push(before.elapsed().as_micros());
        }
        Ok(took)
    };
    let mut took = futures::future::try_join_all((0..clients).map(client)).await?.concat();
    let seconds = started.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: usize| took.get(took.len().saturating_sub(1) * share / 100).copied().unwrap_or(0);
    println!(
        "{creates} creates by {clients} clients: {:.0}/s, p50 {} us, p99 {} us",
        creates as f64 / seconds,
        at(50),
        at(99)
    );
    drop(store);
    let started = Instant::now();
    let store = Embedded::open(dir.path(), Options::default())?;
    println!("opened {} objects in {} ms", store.count("/registry/"), started.elapsed().as_millis());
    Ok(())
}
