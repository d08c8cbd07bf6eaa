//! One operation as it goes down through the layers: what it is called, how long it may take, and
//! whether it may be sent twice. It knows nothing of connections.

use std::time::Duration;

use tokio::time::Instant;

/// Within its deadline a repeatable request is sent at most this often on a healthy connection,
/// so that one lost answer does not cost it all the time there is.
const ATTEMPTS_PER_DEADLINE: u32 = 3;

/// One operation: its name, its deadline, and whether it may be sent twice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) operation: &'static str,
    /// When it was made.
    pub(crate) began: Instant,
    pub(crate) deadline: Instant,
    pub(crate) repeat: Repeat,
    attempt: Duration,
}

/// Whether a request may be sent again when its answer is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Repeat {
    /// Twice is the same as once.
    Safe,
    /// The answer's loss is the caller's to settle.
    Never,
}

impl Call {
    pub(crate) fn new(operation: &'static str, repeat: Repeat, timeout: Duration) -> Self {
        let began = Instant::now();
        let (deadline, attempt) = (began + timeout, timeout / ATTEMPTS_PER_DEADLINE);
        Self { operation, began, deadline, repeat, attempt }
    }

    /// The same call, to be sent at most once.
    pub(crate) fn never_repeated(self) -> Self {
        Self { repeat: Repeat::Never, ..self }
    }

    /// The same call, whose one attempt may take all the time there is.
    pub(crate) fn patient(self) -> Self {
        Self { attempt: self.deadline.saturating_duration_since(Instant::now()), ..self }
    }

    /// The same call, which may be sent again.
    pub(crate) fn repeatable(self) -> Self {
        Self { repeat: Repeat::Safe, ..self }
    }

    /// The same call with the time of one attempt.
    pub(crate) fn first_attempt(self) -> Self {
        Self { deadline: self.attempt_ends(), ..self }
    }

    /// True if there is no time left.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// When the attempt that begins now is given up.
    pub(crate) fn attempt_ends(&self) -> Instant {
        (Instant::now() + self.attempt).min(self.deadline)
    }
}
