//! Streams of lines: what is there is printed at once, and the wait for more ends on a signal.

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use jetbridge_core::Result;

use crate::interrupt::Stop;
use crate::printer::Printer;

/// What came next.
#[derive(Debug)]
pub(crate) enum Next<T> {
    /// An item.
    Item(T),
    /// Nothing more, or a signal.
    End,
}

/// The next item of `items`. Before it waits, everything printed so far is flushed: lines are
/// written in large pieces while they come fast, and none is held back when they stop.
pub(crate) async fn next<S, T>(items: &mut S, printer: &Printer, stop: &mut Stop) -> Result<Next<T>>
where
    S: Stream<Item = Result<T>> + Unpin,
{
    if stop.seen().is_some() {
        return Ok(Next::End);
    }
    let item = match items.next().now_or_never() {
        Some(item) => item,
        None => {
            printer.flush()?;
            tokio::select! {
                biased;
                _signal = stop.raised() => None,
                item = items.next() => item,
            }
        }
    };
    item.map_or(Ok(Next::End), |item| item.map(Next::Item))
}
