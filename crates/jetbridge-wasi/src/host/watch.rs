//! A component that is told of changes: an instance that lives until it traps, and then another.

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jetbridge_core::{Change, Error, ErrorKind, Result, Revision, Start};
use wasmtime::Store;
use wasmtime_wasi::WasiCtxBuilder;

use super::program::Program;
use super::state::State;
use crate::KeyvalueCtx;
use crate::watcher::{Watched, Watcher};

/// How often a change is delivered to guests that trap on it before it is passed over.
const ATTEMPTS_MAX: u32 = 3;

/// Delivers the changes of one store to a component.
pub struct Follower {
    program: Program,
    ctx: KeyvalueCtx,
    watched: Watched,
    changes: BoxStream<'static, Result<Change>>,
    guest: Option<(Store<State>, Watcher)>,
    /// What was taken from the stream and not delivered yet, and how often that was tried.
    pending: Option<(Change, u32)>,
    seen: Option<Revision>,
    has_ended: bool,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("watched", &self.watched).finish_non_exhaustive()
    }
}

/// What came of a change.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a change is told, or not")]
pub enum Told {
    /// The guest was told of it.
    Done,
    /// All that was there has been told.
    CaughtUp,
    /// The guest failed on it, so often that it is passed over.
    PassedOver(Error),
}

impl Follower {
    /// Follows the store `identifier` of `ctx`, from the present value of each key on.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such store.
    pub async fn open(program: Program, ctx: KeyvalueCtx, identifier: &str) -> Result<Self> {
        let watched = Watched::open(&ctx, identifier).await?;
        let changes = watched.changes(Start::Current)?;
        Ok(Self {
            program,
            ctx,
            watched,
            changes,
            guest: None,
            pending: None,
            seen: None,
            has_ended: false,
        })
    }

    /// Takes the watch up again, behind the last change that was told.
    ///
    /// # Errors
    /// As [`Follower::open`].
    pub async fn reopen(&mut self) -> Result<()> {
        self.watched = Watched::open(&self.ctx, self.watched.identifier()).await?;
        self.changes = self.watched.changes(self.seen.map_or(Start::Current, Start::After))?;
        self.has_ended = false;
        Ok(())
    }

    /// Tells what is still to be told to `program`, and not to the one before, which is ended
    /// where it stands: a change that it was being told of is told again.
    pub fn hand_over(&mut self, program: Program) {
        self.program = program;
        self.guest = None;
        if let Some((_, attempts)) = &mut self.pending {
            *attempts = 0;
        }
    }

    /// True if the watch has ended: it is to be taken up again.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Waits for a change and tells the guest of it. Dropped, it tells of it the next time.
    ///
    /// # Errors
    /// A guest that failed, which the next call tells again in a new instance, or a watch that
    /// ended, which [`Follower::reopen`] takes up.
    pub async fn next(&mut self) -> Result<Told> {
        if self.pending.is_none() {
            let change = self.changes.next().await.unwrap_or_else(|| Err(self.ended()));
            self.has_ended = change.is_err();
            if change.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                // What comes under its name next counts from 1 again.
                self.seen = None;
            }
            let change = change?;
            if matches!(change, Change::CaughtUp) {
                return Ok(Told::CaughtUp);
            }
            self.pending = Some((change, 0));
        }
        let Some((change, attempts)) = &mut self.pending else { return Ok(Told::Done) };
        *attempts += 1;
        let (change, attempts) = (change.clone(), *attempts);
        let revision = change.revision();
        let told = match self.tell(change).await {
            Ok(()) => Told::Done,
            Err(error) => {
                // A guest that trapped is of no more use.
                self.guest = None;
                if attempts < ATTEMPTS_MAX {
                    return Err(error);
                }
                Told::PassedOver(error)
            }
        };
        self.pending = None;
        self.seen = revision.or(self.seen);
        Ok(told)
    }

    async fn tell(&mut self, change: Change) -> Result<()> {
        let (mut store, watcher) = match self.guest.take() {
            Some(guest) => guest,
            None => instance(&self.program, &self.ctx).await?,
        };
        let telling = watcher.deliver(&mut store, State::keyvalue, &self.watched, change);
        let told = self.program.within(telling).await;
        told.map_err(|error| self.program.ended(error))?;
        self.guest = Some((store, watcher));
        Ok(())
    }

    fn ended(&self) -> Error {
        Error::new(ErrorKind::Unavailable, "wasi.watch")
            .because("the watch ended")
            .with("store", self.watched.identifier())
    }
}

/// A guest that is ready to be told.
async fn instance(program: &Program, ctx: &KeyvalueCtx) -> Result<(Store<State>, Watcher)> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.inherit_stdout().inherit_stderr().arg(program.name());
    let mut store = program.store(ctx.clone(), &mut wasi);
    let start = async {
        let instance = program.pre.instantiate_async(&mut store).await?;
        Watcher::of(&mut store, &instance)
    };
    let watcher = program.within(start).await;
    match watcher.map_err(|error| program.ended(error))? {
        Some(watcher) => Ok((store, watcher)),
        None => Err(Error::new(ErrorKind::InvalidInput, "wasi.watch")
            .because("the component does not export wasi:keyvalue/watcher")
            .with("component", program.name())),
    }
}
