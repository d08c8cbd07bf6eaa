//! Ctrl-C and SIGTERM.
//!
//! A command that has an end of its own is cut short: its future is dropped, which leaves the
//! store consistent, and the exit code says so. A command that goes on until somebody ends it
//! claims the signals; it then ends in order, and that is success. A second signal cuts anything
//! short.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jetbridge_core::{Error, ErrorKind, Result};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::watch;

use crate::report::Status;

/// A wish to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// Its number, the same on every Unix.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

/// The signals of this process. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    claimed: AtomicBool,
    raised: watch::Sender<Option<Signal>>,
}

impl Interrupt {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { claimed: AtomicBool::new(false), raised: watch::Sender::new(None) }))
    }

    /// Runs `command` until it ends or a signal cuts it short.
    pub(crate) async fn guard<T, F>(&self, command: F) -> Result<Ended<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let mut interrupts = listen(SignalKind::interrupt())?;
        let mut terminations = listen(SignalKind::terminate())?;
        let mut command = std::pin::pin!(command);
        loop {
            let signal = tokio::select! {
                biased;
                settled = &mut command => return settled.map(Ended::Itself),
                _ = interrupts.recv() => Signal::Interrupt,
                _ = terminations.recv() => Signal::Terminate,
            };
            let again = self.0.raised.send_replace(Some(signal)).is_some();
            if again || !self.0.claimed.load(Ordering::Relaxed) {
                return Ok(Ended::Short(signal));
            }
        }
    }

    /// From now on the command ends on its own when a signal comes.
    pub(crate) fn claim(&self) -> Stop {
        self.0.claimed.store(true, Ordering::Relaxed);
        Stop(self.0.raised.subscribe())
    }
}

fn listen(kind: SignalKind) -> Result<unix::Signal> {
    unix::signal(kind)
        .map_err(|error| Error::new(ErrorKind::Internal, "signal.listen").caused_by(error))
}

/// How a guarded command ended.
#[derive(Debug)]
pub(crate) enum Ended<T> {
    /// By itself.
    Itself(T),
    /// By a signal.
    Short(Signal),
}

/// Tells a command that has claimed the signals when to end.
#[derive(Debug)]
pub(crate) struct Stop(watch::Receiver<Option<Signal>>);

impl Stop {
    /// Resolves when a signal has come.
    pub(crate) async fn raised(&mut self) -> Signal {
        loop {
            if let Some(signal) = self.seen() {
                return signal;
            }
            if self.0.changed().await.is_err() {
                // Nobody is left who could raise it.
                return std::future::pending().await;
            }
        }
    }

    /// The signal, if one has come.
    pub(crate) fn seen(&self) -> Option<Signal> {
        *self.0.borrow()
    }

    /// The status of a command that has ended: a signal before it had what it wanted cut it
    /// short; one that wanted all there is was done when it was told so.
    pub(crate) fn status(&self, incomplete: bool) -> Status {
        match self.seen() {
            Some(signal) if incomplete => Status::Interrupted(signal),
            _ => Status::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raise(interrupt: &Interrupt, signal: Signal) {
        interrupt.0.raised.send_replace(Some(signal));
    }

    #[tokio::test]
    async fn a_claimed_signal_is_told_to_the_command() {
        let interrupt = Interrupt::new();
        let mut stop = interrupt.claim();
        assert_eq!(stop.status(true), Status::Done);
        raise(&interrupt, Signal::Terminate);
        assert_eq!(stop.raised().await, Signal::Terminate);
        assert_eq!(stop.status(true), Status::Interrupted(Signal::Terminate));
        assert_eq!(stop.status(false), Status::Done);
    }

    #[tokio::test]
    async fn a_command_that_ends_is_not_cut_short() {
        let ended = Interrupt::new().guard(async { Ok(7) }).await.unwrap();
        assert!(matches!(ended, Ended::Itself(7)));
    }
}
