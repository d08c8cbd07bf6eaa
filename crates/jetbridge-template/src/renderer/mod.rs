//! Keeps a file what its templates and stores say: rendered, checked, put in place as a whole,
//! told to whoever reads it, and again when something changes.
//!
//! Connecting is the business of [`Sources`]; files, watches and the commands around a swap are
//! here. Files are parsed and merged when they change, values are read when they change, and
//! nothing is evaluated while neither does.

mod command;
mod files;
mod follow;
mod outcome;
mod place;
mod preview;
mod spec;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jetbridge_core::{Backoff, Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::outcome::{Event, RenderFailure, Rendering, Stage};
pub use self::preview::Preview;
pub use self::spec::{Reload, ReloadSignal, RenderSpec, Wait};

use self::command::Command;
use self::files::FolderWatch;
use self::follow::Follower;
use self::place::{Owed, Present, Staged};
use self::preview::Showing;
use crate::emit;
use crate::error::Diagnostic;
use crate::fetch::{Answer, Fetched, Fetcher, Sources};
use crate::render::{Input, Prepared, Rendered, evaluate, prepare};
use crate::scalar;
use crate::stamp::Stamp;
use crate::tree::{Node, Value, shown};

/// Waits before what failed is tried again though nothing has changed: a check or a reload may
/// depend on anything.
const RETRY_WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How often files are looked at, whatever is heard of their folders: a link elsewhere on the way
/// to a file may lead to another one without an event in any folder that is watched.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Bytes of a word of a folded secret that are a secret of their own: shorter ones are everywhere.
const WORD_BYTES_MIN: usize = 8;

/// Renders one file, once or again and again.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// use jetbridge_template::{NoSources, RenderSpec, Renderer};
///
/// let folder = tempfile::tempdir()?;
/// let (from, to) = (folder.path().join("t.yml"), folder.path().join("app.yml"));
/// std::fs::write(&from, "a: 1\nb: (( grab a ))\n")?;
/// let mut renderer = Renderer::new(RenderSpec::new(vec![from], &to), Arc::new(NoSources::default()));
/// assert!(renderer.render().await.written);
/// assert_eq!(std::fs::read_to_string(&to)?, "a: 1\nb: 1\n");
/// assert!(!renderer.render().await.written, "it is what it should be");
/// # Ok(())
/// # }
/// ```
pub struct Renderer {
    spec: Arc<RenderSpec>,
    sources: Arc<dyn Sources>,
    /// The templates merged, and the files they came from as they were then.
    merged: Option<(Vec<Stamp>, Prepared)>,
    /// Every file that was read, as it was then.
    files: BTreeMap<PathBuf, Stamp>,
    fetched: Fetched,
    is_reload_due: bool,
    /// Secrets of the file in place.
    placed_secrets: Vec<String>,
    watching: Option<Watching>,
}

/// What became of the file.
#[derive(Debug, Default)]
struct Swap {
    is_written: bool,
    /// Why the new file may be the old one again after a crash.
    warning: Option<Error>,
}

/// What hears of changes.
struct Watching {
    changes: watch::Receiver<u64>,
    folders: FolderWatch,
    follower: Follower,
    deaf: Option<String>,
}

/// Where it renders to; what it holds may be secret.
impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renderer").field("to", &self.spec.to).finish_non_exhaustive()
    }
}

impl Watching {
    /// Says what keeps changes from being heard, if that is something else than before.
    fn tell_trouble(&mut self, tell: &mut impl FnMut(Event)) {
        let deaf = self.follower.trouble();
        if deaf != self.deaf {
            self.deaf.clone_from(&deaf);
            tell(Event::Deaf(deaf));
        }
    }
}

impl Renderer {
    /// Does nothing yet.
    pub fn new(spec: RenderSpec, sources: Arc<dyn Sources>) -> Self {
        let is_reload_due =
            spec.reload.is_some() && Owed::beside(&spec.to).is_ok_and(|owed| owed.is_set());
        Self {
            spec: Arc::new(spec),
            sources,
            merged: None,
            files: BTreeMap::new(),
            fetched: Fetched::default(),
            is_reload_due,
            placed_secrets: Vec::new(),
            watching: None,
        }
    }

    /// Renders now; writes if the result differs from the file.
    pub async fn render(&mut self) -> Rendering {
        let mut rendering = match self.evaluated().await {
            Ok(rendered) => self.put(rendered).await,
            Err(failure) => Rendering::failed(failure),
        };
        self.is_reload_due |= rendering.written;
        // Also owed by an earlier rendering, whatever keeps the next file out.
        if self.is_reload_due {
            self.reload(&mut rendering).await;
        }
        rendering
    }

    /// What [`Renderer::render`] would change; nothing is written.
    ///
    /// # Errors
    /// Why it would fail.
    pub async fn preview(&mut self) -> Result<Preview, RenderFailure> {
        let rendered = Arc::new(self.evaluated().await?);
        self.difference(&rendered).await.map_err(RenderFailure::step(Stage::Read))
    }

    async fn difference(&self, rendered: &Arc<Rendered>) -> Result<Preview> {
        let (spec, rendered) = (Arc::clone(&self.spec), Arc::clone(rendered));
        let showing = if self.sources.has_secrets() { Showing::Shared } else { Showing::All };
        on_disk(move || {
            let present = place::present(&spec.to)?;
            let bytes = present.as_ref().map(|present| &present.bytes[..]);
            Ok(preview::of(bytes, showing, &rendered, &spec.options))
        })
        .await
    }

    /// Renders now and after every change, until `end` resolves; what is under way then is
    /// finished. `tell` hears of each rendering. Dropped instead, it leaves the old file or the
    /// new one.
    pub async fn follow(&mut self, end: impl Future<Output = ()>, mut tell: impl FnMut(Event)) {
        let mut end = std::pin::pin!(end);
        let mut backoff = Backoff::new(RETRY_WAITS.0, RETRY_WAITS.1);
        loop {
            let rendering = match self.listen() {
                Ok(()) => self.render().await,
                Err(error) => Rendering::failed(RenderFailure::step(Stage::Read)(error)),
            };
            let retry = if rendering.failure.is_some() {
                Some(Instant::now() + backoff.next_wait())
            } else {
                backoff = Backoff::new(RETRY_WAITS.0, RETRY_WAITS.1);
                None
            };
            tell(Event::Rendered(rendering));
            tokio::select! {
                biased;
                () = &mut end => return,
                () = self.until_due(retry, &mut tell) => {}
            }
        }
    }

    /// Ends the watches, within `grace`; returns how many are left.
    pub async fn stop(&mut self, grace: Duration) -> usize {
        match self.watching.take() {
            Some(mut watching) => watching.follower.stop(grace).await,
            None => 0,
        }
    }

    /// Hears of changes from now on.
    fn listen(&mut self) -> Result<()> {
        if let Some(watching) = &mut self.watching {
            watching.changes.mark_unchanged();
            return Ok(());
        }
        let (sender, changes) = watch::channel(0);
        self.watching = Some(Watching {
            changes,
            folders: FolderWatch::new(sender.clone())?,
            follower: Follower::new(Arc::clone(&self.sources), sender),
            deaf: None,
        });
        Ok(())
    }

    /// Returns when there is something to do: a change that has settled, or `retry`.
    async fn until_due(&mut self, retry: Option<Instant>, tell: &mut impl FnMut(Event)) {
        let Some(watching) = &mut self.watching else { return sleep_until(retry).await };
        // Files that were read before their folders were watched.
        let mut is_due = is_changed(&self.files);
        // A rendering may have taken leave of the bucket that was not heard.
        watching.tell_trouble(tell);
        while !is_due {
            tokio::select! {
                _ = watching.changes.changed() => {}
                () = sleep_until(retry) => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            watching.tell_trouble(tell);
            is_due = watching.follower.is_stale(&self.fetched) || is_changed(&self.files);
        }
        settle(&mut watching.changes, self.spec.wait).await;
    }

    /// Merges and evaluates, with what is known to be so still.
    async fn evaluated(&mut self) -> Result<Rendered, RenderFailure> {
        let prepared = self.prepared()?;
        match &self.watching {
            Some(watching) => watching.follower.forget_changed(&mut self.fetched),
            None => self.fetched = Fetched::default(),
        }
        let sources = Arc::clone(&self.sources);
        let mut fetcher = Fetcher::resume(&*sources, std::mem::take(&mut self.fetched));
        let evaluated = evaluate(prepared, &self.spec.options, &mut fetcher).await;
        let Fetcher { fetched, used, files, .. } = fetcher;
        self.fetched = fetched;
        self.files.extend(files);
        if evaluated.is_ok() {
            self.fetched.retain(|request, _| used.contains(request));
        }
        if let Some(watching) = &mut self.watching {
            watching.follower.set(&self.fetched);
            watching.folders.set(self.files.keys()).map_err(RenderFailure::step(Stage::Read))?;
        }
        let is_outage = self.fetched.has_outage();
        evaluated.map_err(|failure| RenderFailure::Template { failure, is_outage })
    }

    /// The templates merged; those that have not changed are not read again.
    fn prepared(&mut self) -> Result<Prepared, RenderFailure> {
        // Stamps are older than bytes: what changes in between is seen as a change.
        let stamps: Vec<Stamp> = self.spec.from.iter().map(|path| Stamp::of(path)).collect();
        self.files = self.spec.from.iter().cloned().zip(stamps.iter().copied()).collect();
        if let Some((known, prepared)) = &self.merged
            && *known == stamps
        {
            return Ok(prepared.clone());
        }
        self.merged = None;
        if let Some(watching) = &mut self.watching {
            watching.folders.set(self.files.keys()).map_err(RenderFailure::step(Stage::Read))?;
        }
        let inputs = self.spec.from.iter().map(|path| input(path)).collect::<Result<Vec<_>>>();
        let inputs = inputs.map_err(RenderFailure::step(Stage::Read))?;
        let prepared = prepare(inputs, &self.spec.options)
            .map_err(|failure| RenderFailure::Template { failure, is_outage: false })?;
        self.merged = Some((stamps, prepared.clone()));
        Ok(prepared)
    }

    /// Puts what was rendered in place.
    async fn put(&mut self, rendered: Rendered) -> Rendering {
        let secrets = self.secrets(&rendered.root);
        let rendered = Arc::new(rendered);
        // What is in the way of reading the present file is what the swap fails with.
        let diff = self.difference(&rendered).await.map(|found| found.diff).unwrap_or_default();
        let rendered = Arc::unwrap_or_clone(rendered);
        let mut rendering = Rendering { warnings: rendered.warnings, ..Rendering::default() };
        match self.swap(rendered.text.into_bytes(), &secrets).await {
            Ok(swap) => {
                self.placed_secrets = secrets;
                rendering.written = swap.is_written;
                if swap.is_written {
                    rendering.diff = diff;
                }
                rendering.warnings.extend(swap.warning.map(unsynced));
            }
            Err(failure) => rendering.failure = Some(failure),
        }
        rendering
    }

    /// Tells whoever reads the file that it is a new one. An earlier failure is what stays told.
    async fn reload(&mut self, rendering: &mut Rendering) {
        let Some(reload) = &self.spec.reload else { return };
        let file = std::path::absolute(&self.spec.to).unwrap_or_else(|_| self.spec.to.clone());
        let done = match reload {
            Reload::Command(words) => {
                self.command("template.reload", &file, &self.placed_secrets).run(words).await
            }
            Reload::Signal { signal, pid_file } => command::signal(*signal, pid_file),
        };
        match done {
            Ok(()) => {
                self.is_reload_due = false;
                if let Ok(owed) = Owed::beside(&self.spec.to) {
                    owed.clear();
                }
                rendering.reloaded = true;
            }
            Err(error) => {
                let failure = RenderFailure::step(Stage::Reload)(error);
                rendering.failure.get_or_insert(failure);
            }
        }
    }

    /// Writes, checks and swaps, unless the file has these bytes already.
    async fn swap(&self, bytes: Vec<u8>, secrets: &[String]) -> Result<Swap, RenderFailure> {
        let spec = Arc::clone(&self.spec);
        let staged = on_disk(move || stage(&spec, &bytes)).await;
        let Some(staged) = staged.map_err(RenderFailure::step(Stage::Write))? else {
            return Ok(Swap::default());
        };
        if let Some(words) = &self.spec.check {
            let checked = self.command("template.check", staged.path(), secrets).run(words).await;
            checked.map_err(RenderFailure::step(Stage::Check))?;
        }
        let (spec, was_due) = (Arc::clone(&self.spec), self.is_reload_due);
        let swapped = on_disk(move || commit(staged, &spec, was_due)).await;
        let warning = swapped.map_err(RenderFailure::step(Stage::Write))?;
        Ok(Swap { is_written: true, warning })
    }

    fn command<'a>(
        &'a self,
        operation: &'static str,
        file: &'a Path,
        secrets: &'a [String],
    ) -> Command<'a> {
        let (directory, timeout) = (&self.spec.directory, self.spec.command_timeout);
        Command { operation, file, directory, timeout, secrets }
    }

    /// What commands may have read and must not repeat, longer texts first.
    fn secrets(&self, root: &Node) -> Vec<String> {
        let mut texts = Vec::new();
        collect_secrets(root, &mut texts);
        for (_, answer) in self.fetched.iter() {
            if let Answer::Found(found) = answer
                && found.secret
            {
                let text = String::from_utf8_lossy(&found.bytes);
                texts.extend(text.lines().map(str::to_owned));
            }
        }
        let forms: Vec<String> = texts.iter().flat_map(|text| forms(text)).collect();
        texts.extend(forms);
        texts.retain(|text| !text.trim().is_empty());
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        texts.dedup();
        texts
    }
}

fn unsynced(error: Error) -> Diagnostic {
    Diagnostic::top(format!(
        "the new file is in place, but may be the old one again after a crash: its folder cannot \
         be synced: {}",
        RenderFailure::step(Stage::Write)(error)
    ))
}

/// How else a command may print a line of a secret: without the blanks around it, as the file
/// quotes it, or folded as the file folds it.
fn forms(line: &str) -> Vec<String> {
    let trimmed = line.trim();
    let double = scalar::quoted(trimmed);
    let double = double.trim_matches('"').to_owned();
    let single = trimmed.replace('\'', "\'\'");
    let may_be_folded = trimmed.len() > emit::FOLD_COLUMNS;
    let words = trimmed.split(' ').filter(|word| may_be_folded && word.len() >= WORD_BYTES_MIN);
    [trimmed.to_owned(), double, single].into_iter().chain(words.map(str::to_owned)).collect()
}

fn collect_secrets(node: &Node, texts: &mut Vec<String>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| collect_secrets(item, texts)),
        Value::Map(map) => map.values().for_each(|value| collect_secrets(value, texts)),
        _ if node.secret => texts.extend(shown(node).lines().map(str::to_owned)),
        _ => {}
    }
}

/// New bytes beside the target; `None` if they are what is there.
fn stage(spec: &RenderSpec, bytes: &[u8]) -> Result<Option<Staged>> {
    let present: Option<Present> = place::present(&spec.to)?;
    if present.as_ref().is_some_and(|present| place::is_same(present, bytes, spec)) {
        return Ok(None);
    }
    Staged::write(&spec.to, bytes, present.as_ref(), spec).map(Some)
}

/// Puts the new file in place, after a mark that its reload is owed.
fn commit(staged: Staged, spec: &RenderSpec, was_due: bool) -> Result<Option<Error>> {
    if spec.reload.is_none() {
        return staged.commit(spec.backups);
    }
    let owed = Owed::beside(&spec.to)?;
    owed.set()?;
    let swapped = staged.commit(spec.backups);
    if swapped.is_err() && !was_due {
        owed.clear();
    }
    swapped
}

/// Runs `work` where waiting for a disk, or comparing files, holds up nobody.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(broken) => {
            Err(Error::new(ErrorKind::Internal, "template.write")
                .caused_by(io::Error::other(broken)))
        }
    }
}

/// True if one of `files` is not as it was.
fn is_changed(files: &BTreeMap<PathBuf, Stamp>) -> bool {
    files.iter().any(|(path, stamp)| Stamp::of(path) != *stamp)
}

fn input(path: &Path) -> Result<Input> {
    let bytes = std::fs::read(path).map_err(|error| place::cannot("template.read", path, error))?;
    Ok(Input::new(path.display().to_string(), bytes))
}

/// Waits until changes have been away for `wait.min`, at most `wait.max`.
async fn settle(changes: &mut watch::Receiver<u64>, wait: Wait) {
    let end = Instant::now() + wait.max;
    while !wait.min.is_zero() {
        let quiet = (Instant::now() + wait.min).min(end);
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(quiet) => return,
            _ = changes.changed() => {}
        }
    }
}

async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}
