//! `sub`.

use std::time::Duration;

use futures_util::StreamExt as _;
use jetbridge_core::{Received, Result, Subscribe, Subscription};
use tokio::time::{Instant, timeout_at};

use super::Invocation;
use crate::args::bus::Sub;
use crate::follow::{Next, next};
use crate::report::Status;
use crate::view::message::{Detail, MessageView};

/// How long what has arrived may take to be printed after a signal.
const DRAIN: Duration = Duration::from_secs(2);

/// Prints messages as they come.
pub(super) async fn run(args: Sub, on: &Invocation<'_>) -> Result<Status> {
    let mut subscribe = Subscribe::to(args.pattern.clone());
    subscribe.group.clone_from(&args.queue);
    let mut subscription = on.store.bus().subscribe(subscribe).await?;
    let mut stop = on.interrupt.claim();
    on.printer.note(format_args!("listening on {}", args.pattern));
    let mut lines = Lines { left: args.count, detail: Detail::of_line(args.raw), on };
    while lines.left != Some(0) {
        match next(&mut subscription, on.printer, &mut stop).await? {
            Next::Item(received) => lines.print(&received)?,
            Next::End => break,
        }
    }
    if stop.seen().is_some() {
        lines.drain(&mut subscription).await?;
    }
    Ok(stop.status(lines.left.is_some_and(|left| left > 0)))
}

struct Lines<'a> {
    /// How many messages are still wanted; `None` is without end.
    left: Option<u64>,
    detail: Detail,
    on: &'a Invocation<'a>,
}

impl Lines<'_> {
    fn print(&mut self, received: &Received) -> Result<()> {
        match received {
            Received::Message(message) => {
                self.left = self.left.map(|left| left.saturating_sub(1));
                self.on.printer.value(&MessageView::of(message, self.detail))
            }
            Received::Dropped(messages) => {
                let text = "messages were dropped: they came faster than they could be printed";
                self.on.printer.warn(format_args!("{messages} {text}"));
                Ok(())
            }
        }
    }

    /// What has arrived is printed before the end.
    async fn drain(&mut self, subscription: &mut Subscription) -> Result<()> {
        let deadline = Instant::now() + DRAIN;
        subscription.drain();
        while self.left != Some(0) {
            match timeout_at(deadline, subscription.next()).await {
                Ok(Some(received)) => self.print(&received?)?,
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }
}
