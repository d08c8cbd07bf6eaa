//! Messages at most once: wildcards, a queue group, handlers, questions and answers.
//!
//! `cargo run -p jetbridge --example publish_subscribe [STORE]`; the store is `memory:` by default.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use jetbridge::connector::Connector;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
struct Order {
    id: u64,
}

#[tokio::main]
async fn main() -> jetbridge::Result<()> {
    let store = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let connector = Connector::new(jetbridge::connect(store).await?);

    // Every order goes to one of the two workers, and to the auditor as well.
    for worker in ["first", "second"] {
        let workers = connector.subscribe::<Order>("orders.*").queue("workers");
        workers
            .handle(4, move |message| async move {
                println!("{worker} worker: {:?}", message.decode()?);
                Ok(())
            })
            .await?;
    }
    connector
        .subscribe::<Order>("orders.>")
        .handle(1, |message| async move {
            println!("auditor: {} on {}", message.decode()?.id, message.topic());
            Ok(())
        })
        .await?;
    for id in 1..=4 {
        connector.publish("orders.created", &Order { id }).await?;
    }

    connector
        .subscribe::<(i64, i64)>("math.add")
        .respond(4, |question| async move {
            let (a, b) = question.decode()?;
            Ok(a + b)
        })
        .await?;
    let sum: i64 = connector.request("math.add", &(2, 3)).await?.decode()?;
    println!("2 + 3 = {sum}");

    println!("{}", connector.shutdown(Duration::from_secs(10)).await);
    Ok(())
}
