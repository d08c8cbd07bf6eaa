//! Messages at least once: a stream, deduplication, a durable consumer that retries and gives up.
//!
//! `cargo run -p jetbridge --example work_queue [STORE]`; the store is `memory:` by default. It
//! ends on SIGTERM or SIGINT, or when the work is done.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use jetbridge::connector::{Connector, HandlerError};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Debug, Deserialize, Serialize)]
struct Mail {
    to: String,
}

#[tokio::main]
async fn main() -> jetbridge::Result<()> {
    let store = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let connector = Connector::new(jetbridge::connect(store).await?);
    connector.create_stream("MAILS", ["mails.>"]).await?;

    for to in ["ada@example.org", "bob@example.org", "ada@example.org", "nobody"] {
        let mail = Mail { to: to.to_owned() };
        let stored = connector.publish("mails.welcome", &mail).jetstream().msg_id(to).await?;
        println!("to {to}: {}", if stored.duplicate { "a duplicate" } else { "stored" });
    }

    let (done, mut settled) = mpsc::channel(8);
    connector
        .consume::<Mail>("MAILS", "mailer")
        .retry(Duration::from_millis(100), Duration::from_secs(10))
        .handle(2, move |message| {
            let done = done.clone();
            async move {
                let mail = message.decode().map_err(HandlerError::terminal)?;
                let attempt = message.delivery().map_or(1, |delivery| delivery.attempt);
                println!("attempt {attempt}: {}", mail.to);
                match (mail.to.contains('@'), attempt) {
                    (false, _) => {
                        done.send(mail.to.clone()).await?;
                        Err(HandlerError::terminal("that is no address"))
                    }
                    (true, 1) => Err("the mail server is busy".into()),
                    (true, _) => Ok(done.send(mail.to).await?),
                }
            }
        })
        .await?;

    tokio::select! {
        report = connector.shutdown_on_signal() => println!("{}", report?),
        () = async { for _ in 0..3 { settled.recv().await; } } => {
            println!("{}", connector.shutdown(Duration::from_secs(10)).await);
        }
    }
    Ok(())
}
