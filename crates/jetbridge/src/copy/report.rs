//! What a copy came to.

/// Names of what was kept that a report holds: enough to look at.
pub const KEPT_NAMES_MAX: usize = 10;

/// Something was looked at or copied. Bytes are those of values, bodies and payloads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// Keys, objects or messages that are settled.
    pub items: u64,
    /// Bytes that are settled.
    pub bytes: u64,
}

impl Step {
    /// One key, object or message of so many bytes.
    pub(super) fn one(bytes: usize) -> Self {
        Self { items: 1, bytes: bytes as u64 }
    }

    /// Bytes of an object that is under way.
    pub(super) fn bytes(bytes: usize) -> Self {
        Self { items: 0, bytes: bytes as u64 }
    }
}

/// What the copy of one part came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CopyReport {
    /// Keys, objects or messages that were written, or deleted, in the destination.
    pub copied: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Keys, objects or messages that were the same before.
    pub unchanged: u64,
    /// Keys or objects that are newer in the destination, which stayed there.
    pub kept: u64,
    /// Their names, the first [`KEPT_NAMES_MAX`].
    pub kept_names: Vec<String>,
    /// True if both stores were the same, but for what was kept, when they were last looked at.
    /// False where the source was still written to.
    pub verified: bool,
    /// What the user should know, in words.
    pub remarks: Vec<String>,
}

impl CopyReport {
    /// True if the destination has everything the source has.
    pub fn is_complete(&self) -> bool {
        self.verified && self.kept == 0
    }

    pub(super) fn remark(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    /// Takes over what one pass came to.
    pub(super) fn add(&mut self, pass: Tally) {
        self.copied += pass.copied;
        self.bytes += pass.bytes;
        // Those that this run has copied are the same when they are looked at again.
        self.unchanged = pass.unchanged.saturating_sub(self.copied);
        self.kept = pass.kept;
        self.kept_names = pass.kept_names;
        self.verified = pass.copied == 0 && pass.moved == 0;
    }
}

/// What one pass over a part came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) copied: u64,
    pub(super) bytes: u64,
    pub(super) unchanged: u64,
    pub(super) kept: u64,
    pub(super) kept_names: Vec<String>,
    /// What changed under our hands and is to be looked at again.
    pub(super) moved: u64,
}

/// What became of one key or object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Settled {
    /// It was written, so many bytes.
    Copied(u64),
    /// It is newer in the destination.
    Kept(String),
    /// It changed meanwhile.
    Moved,
    /// There is nothing to do: it has expired, or was deleted on both sides.
    Nothing,
    /// It was the same.
    Unchanged,
}

impl Tally {
    pub(super) fn count(&mut self, settled: Settled) {
        match settled {
            Settled::Copied(bytes) => {
                self.copied += 1;
                self.bytes += bytes;
            }
            Settled::Kept(name) => {
                self.kept += 1;
                if self.kept_names.len() < KEPT_NAMES_MAX {
                    self.kept_names.push(name);
                }
            }
            Settled::Moved => self.moved += 1,
            Settled::Nothing => {}
            Settled::Unchanged => self.unchanged += 1,
        }
    }
}
