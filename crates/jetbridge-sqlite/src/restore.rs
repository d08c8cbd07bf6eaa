//! Restoring: from the files of a replica to a database file.
//!
//! Files are looked at from the newest to the oldest. What a page index says decides which file
//! has the newest version of a page; each file is then read once, whole and verified, and only
//! those pages of it are written, in place. The output has its name when all of it is right and
//! on disk, and not before.

mod check;
mod image;
mod output;
mod source;

use std::path::PathBuf;
use std::time::Duration;

use jetbridge_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

pub use check::Integrity;
pub(crate) use image::Image;
pub use output::is_draft;
pub(crate) use output::{POSITION_SUFFIX, directory_of, sync_directory, unwritten, with_suffix};
pub(crate) use source::{Reading, blocking, fill, index};

use self::output::Output;
use crate::follow::{Place, stamp};
use crate::store::{LtxFile, Manifest, Plan, Replica, Target, plan};
use crate::{PageSize, Pgno, Txid};

pub(crate) const OPERATION: &str = "sqlite.restore";
/// Large files that are read at once.
const PARALLELISM_DEFAULT: usize = 4;
/// How often the files are listed again because one of the plan was deleted meanwhile.
const LISTINGS_MAX: u32 = 5;
/// What a proof would be called if it got a name. What one that was killed has left is removed by
/// the next in the same directory.
const PROOF_NAME: &str = ".jetbridge-verify";

/// What to restore, and where to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The database file to make.
    pub output: PathBuf,
    /// Which state.
    pub target: Target,
    /// Replace what is there.
    pub overwrite: Overwrite,
    /// What SQLite is to check afterwards.
    pub integrity: Integrity,
    /// Large files that are read at once.
    pub parallelism: usize,
    /// What becomes of the first page.
    pub(crate) form: Form,
}

/// What the database is made for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Form {
    /// To be what was captured, byte by byte.
    #[default]
    Exact,
    /// To be followed: its first page says where it stands.
    Followed,
    /// To be looked at by SQLite, and to be thrown away without ever having a name.
    Proof,
}

impl Options {
    /// The newest state into a new file.
    pub fn new(output: impl Into<PathBuf>) -> Self {
        Self {
            output: output.into(),
            target: Target::Latest,
            overwrite: Overwrite::No,
            integrity: Integrity::None,
            parallelism: PARALLELISM_DEFAULT,
            form: Form::Exact,
        }
    }
}

/// Whether a database that is there may be replaced.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "yes or no")]
pub enum Overwrite {
    /// No: that is an error.
    #[default]
    No,
    /// Yes, with its WAL and journal.
    Yes,
}

/// What was restored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// The state.
    pub txid: Txid,
    /// The size of a page.
    pub page_size: PageSize,
    /// The pages of the database.
    pub pages: Pgno,
    /// How long it took.
    pub took: Duration,
    /// Files that are broken, and that other files made up for.
    pub broken: Vec<LtxFile>,
}

/// Told how many bytes of the plan's files are done.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// A failure, and the file it lies in.
pub(crate) struct Failure {
    pub(crate) file: Option<LtxFile>,
    pub(crate) error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { file: None, error }
    }
}

impl Failure {
    fn of(file: &LtxFile) -> impl FnOnce(Error) -> Self + '_ {
        move |error| {
            let file = (error.kind() == ErrorKind::Corrupt).then(|| file.clone());
            Self { file, error }
        }
    }
}

/// Restores a state of `replica`.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) if there is no such state;
/// [`Corrupt`](ErrorKind::Corrupt) if files of it are broken or lost, naming the transactions
/// that are, and the newest state that is not touched by it;
/// [`AlreadyExists`](ErrorKind::AlreadyExists) if the output is there.
pub async fn restore(
    replica: &Replica,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Restored> {
    let began = Instant::now();
    let output = Output::new(&options.output, options.overwrite)?;
    let mut manifest = replica.manifest().await?;
    let mut broken: Vec<LtxFile> = Vec::new();
    let mut wanted = plan(&manifest, options.target)?;
    let least = wanted.txid;
    let mut listings = 1;
    loop {
        let failure = match attempt(replica, &output, &wanted, (options, progress)).await {
            Ok(image) => {
                let took = began.elapsed();
                let (txid, page_size, pages) = (wanted.txid, image.page_size, image.pages);
                return Ok(Restored { txid, page_size, pages, took, broken });
            }
            Err(failure) => failure,
        };
        let Some(file) = failure.file else { return Err(failure.error) };
        // It may be gone because a retention took it while we read: then others say the same.
        let now = replica.manifest().await?;
        if now.files().all(|other| (other.level, other.range) != (file.level, file.range)) {
            listings += 1;
            if listings > LISTINGS_MAX {
                return Err(failure.error);
            }
        } else {
            broken.push(file.clone());
        }
        manifest = now;
        for file in &broken {
            manifest.remove(file.level, file.range);
        }
        // What was asked for may have grown since; it must not shrink because something is lost.
        match plan(&manifest, options.target) {
            Ok(other) if other.txid >= least => wanted = other,
            Ok(_less) => return Err(lost(replica, manifest, &file, least, failure.error).await),
            Err(_gap) => return Err(lost(replica, manifest, &file, least, failure.error).await),
        }
        tracing::warn!(file = file.file_name(), level = %file.level, error = %failure.error,
            "a file is broken or gone; others make up for it");
    }
}

/// Proves that a state can be restored: restores it to a file in `directory`, lets SQLite check
/// it, and drops it. It never has a name by which anybody would take it for a database.
///
/// # Errors
/// As [`restore`].
pub async fn verify(
    replica: &Replica,
    (directory, target): (&std::path::Path, Target),
    progress: Progress<'_>,
) -> Result<Restored> {
    let mut options = Options::new(directory.join(PROOF_NAME));
    (options.target, options.integrity) = (target, Integrity::Full);
    options.form = Form::Proof;
    restore(replica, &options, progress).await
}

async fn attempt(
    replica: &Replica,
    output: &Output,
    plan: &Plan,
    (options, progress): (&Options, Progress<'_>),
) -> Result<Image, Failure> {
    let mut draft = output.draft()?;
    let file = draft.file()?;
    let reading = Reading { replica, plan, known: 0, parallelism: options.parallelism, progress };
    let image = fill(reading, std::sync::Arc::clone(&file)).await?;
    if let (Form::Followed, Some(last)) = (options.form, plan.files.last()) {
        stamp(&file, image.pages, Place::behind(last)).map_err(unwritten)?;
    }
    let (path, integrity) = (draft.path().to_owned(), options.integrity);
    check::run(path, integrity).await?;
    if options.form != Form::Proof {
        draft.publish().await?;
    }
    Ok(image)
}

/// That `txid` cannot be restored because `file` is broken, and what can be.
async fn lost(
    replica: &Replica,
    mut manifest: Manifest,
    file: &LtxFile,
    txid: Txid,
    cause: Error,
) -> Error {
    let good = newest_good(replica, &mut manifest, txid).await;
    let text = format!(
        "level {} file {} is broken, and no other carries its transactions",
        file.level,
        file.file_name()
    );
    let error = Error::new(ErrorKind::Corrupt, OPERATION)
        .because(text)
        .with("lost_from", good.next().max(file.range.min()))
        .with("lost_to", file.range.max())
        .caused_by(cause);
    match good {
        Txid::NONE => error.hint("no earlier state can be restored either"),
        good => error
            .with("newest_good", good)
            .hint(format!("the newest that can be restored is -txid {good}")),
    }
}

/// The newest state whose files are all there, not later than `txid`.
async fn newest_good(replica: &Replica, manifest: &mut Manifest, txid: Txid) -> Txid {
    loop {
        let plan = crate::store::reach(manifest, Target::Txid(txid));
        let mut missing = None;
        for file in &plan.files {
            if replica.tail(file, 1).await.is_err() {
                missing = Some((file.level, file.range));
                break;
            }
        }
        match missing {
            Some((level, range)) => {
                manifest.remove(level, range);
            }
            None => return plan.txid,
        }
    }
}
