//! Values under keys: set, get, expiry, counters, one bucket per call, watching.
//!
//! `cargo run -p jetbridge --example keys_and_values [STORE]`; the store is `memory:` by default.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use futures_util::StreamExt as _;
use jetbridge::connector::Connector;
use jetbridge::typed::TypedChange;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
struct User {
    name: String,
    logins: u32,
}

#[tokio::main]
async fn main() -> jetbridge::Result<()> {
    let store = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let connector = Connector::new(jetbridge::connect(store).await?);
    let kv = connector.kv();

    kv.set("user:1", &User { name: "Ada".into(), logins: 0 }).await?;
    let user: Option<User> = kv.get("user:1").await?;
    println!("user:1 is {user:?}");

    kv.set("session:abc", &"cart").ttl(Duration::from_secs(1800)).bucket("sessions").await?;
    let session = kv.get_with_expiration::<String>("session:abc").bucket("sessions").await?;
    println!("session:abc is {session:?}");

    println!("logins: {}", kv.increment("logins:1", 1).await?);
    println!("created twice: {}", kv.set("user:1", &"Bob").if_absent().await?);
    println!("keys: {}", kv.item_count().await?);

    let users = kv.typed::<User>().await?;
    let mut changes = users.watch("user:");
    while let Some(change) = changes.next().await {
        match change? {
            TypedChange::Put(entry) if entry.value.logins == 1 => break,
            TypedChange::Put(entry) => println!("{} was {:?}", entry.key, entry.value),
            TypedChange::Delete { key, .. } => println!("{key} is gone"),
            TypedChange::CaughtUp => {
                println!("that was all; now it changes");
                users.update("user:1", |user| user.map(|user| User { logins: 1, ..user })).await?;
            }
        }
    }
    println!("{}", connector.shutdown(Duration::from_secs(10)).await);
    Ok(())
}
