//! Compiled components, kept in a directory: compiling takes seconds where loading takes
//! milliseconds.
//!
//! A file is named by the component and by all of the engine that matters to its code, and holds
//! the digest of the rest of itself. What does not match is compiled anew; a directory that
//! cannot be used costs time and nothing else.
//!
//! What nobody has used for a month goes: each version of a component and of the engine leaves a
//! file, of which there may be a hundred megabytes.
//!
//! What is kept is run, so the digest is against damage and the directory is against others: it
//! and its files are used only if they are this user's and no one else can write them.

use std::fs::{DirBuilder, File, FileTimes};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jetbridge_core::{Clock as _, Digest, SystemClock};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes of the digest that a file begins with.
const DIGEST_BYTES: usize = 32;
/// How long a file is kept that nobody uses.
const UNUSED_MAX: Duration = Duration::from_hours(30 * 24);
/// How long a file may be in the making: longer than any disk takes to write one.
const UNFINISHED_MAX: Duration = Duration::from_hours(1);
/// What the name of a kept file ends with; behind it a file in the making has more.
const SUFFIX: &str = ".cwasm";
/// Of a mode: what lets others write.
const WRITE_OF_OTHERS: u32 = 0o022;

/// The component `wasm`, from `directory` if it is there, else compiled and put there.
pub(super) fn load(
    engine: &Engine,
    wasm: &[u8],
    directory: Option<&Path>,
) -> wasmtime::Result<Component> {
    let Some(directory) = directory.and_then(usable) else { return Component::new(engine, wasm) };
    let name = name(engine, wasm);
    if let Some(component) = read(engine, &directory, &name) {
        return Ok(component);
    }
    let component = Component::new(engine, wasm)?;
    let code = component.serialize().map_err(io::Error::other);
    if let Err(error) = code.and_then(|code| directory.write(&name, &code)) {
        tracing::debug!("{name} was not kept: {error}");
    }
    if let Err(error) = directory.tidy(SystemClock.now()) {
        tracing::debug!("what is not used was not removed: {error}");
    }
    Ok(component)
}

fn usable(path: &Path) -> Option<Directory> {
    let opened = Directory::open(path);
    opened.inspect_err(|error| tracing::debug!("{} is not used: {error}", path.display())).ok()
}

fn name(engine: &Engine, wasm: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let digest = Digest::of(wasm);
    let component: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{component}-{:016x}{SUFFIX}", hasher.finish())
}

fn read(engine: &Engine, directory: &Directory, name: &str) -> Option<Component> {
    let bytes = directory.read(name).ok()?;
    let (digest, code) = bytes.split_at_checked(DIGEST_BYTES)?;
    if Digest::of(code).as_bytes() != digest {
        tracing::debug!("{name} is damaged: compiling anew");
        return None;
    }
    #[expect(
        unsafe_code,
        reason = "the code is ours: the file and its directory are this user's and writable by \
                  nobody else, and the digest that was written with it matches"
    )]
    let component = unsafe { Component::deserialize(engine, code) };
    component.ok()
}

/// A directory that nobody else can write, held open: what was looked at is what is used, whoever
/// moves names about.
struct Directory(File);

impl Directory {
    /// Makes it if it is missing. A link to one is refused.
    fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        demand_ours(&directory)?;
        Ok(Self(directory))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.0, name, flags, Mode::empty())?);
        demand_ours(&file)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // Said here: many systems do not keep it.
        file.set_times(FileTimes::new().set_accessed(SystemClock.now()))?;
        Ok(bytes)
    }

    /// Removes what is not used any more, and what nobody will finish.
    fn tidy(&self, now: SystemTime) -> io::Result<()> {
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Some((_, rest)) = name.split_once(SUFFIX) else { continue };
            let facts = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let (since, most) = match rest {
                "" => (facts.st_atime.max(facts.st_mtime), UNUSED_MAX),
                _ => (facts.st_mtime, UNFINISHED_MAX),
            };
            let since = UNIX_EPOCH + Duration::from_secs(u64::try_from(since).unwrap_or_default());
            if now.duration_since(since).is_ok_and(|age| age > most) {
                rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Writes whole or not at all: others may be reading.
    fn write(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.{:016x}", jetbridge_core::random::u64());
        let written = self.fill(&temporary, code).and_then(|()| {
            rustix::fs::renameat(&self.0, &temporary, &self.0, name).map_err(Into::into)
        });
        if written.is_err()
            && let Err(error) = rustix::fs::unlinkat(&self.0, &temporary, AtFlags::empty())
        {
            tracing::debug!("{temporary} stays: {error}");
        }
        written
    }

    fn fill(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut file = File::from(rustix::fs::openat(&self.0, name, flags, mode)?);
        file.write_all(Digest::of(code).as_bytes())?;
        file.write_all(code)
    }
}

/// Refuses what others own or can write.
fn demand_ours(file: &File) -> io::Result<()> {
    let facts = file.metadata()?;
    let us = rustix::process::geteuid().as_raw();
    refusal(facts.uid(), facts.mode(), us).map_or(Ok(()), |reason| Err(io::Error::other(reason)))
}

fn refusal(owner: u32, mode: u32, us: u32) -> Option<&'static str> {
    match () {
        () if owner != us => Some("it is another user's"),
        () if mode & WRITE_OF_OTHERS != 0 => Some("others can write it"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    const ASKED_FOR: &str = "(component)";
    /// What somebody else would have us run.
    const ANOTHER: &str = r#"(component (core module $m) (export "m" (core module $m)))"#;

    struct Rig {
        engine: Engine,
        folder: tempfile::TempDir,
    }

    impl Rig {
        /// A directory that holds another component under the name of the one that is asked for.
        fn poisoned() -> Self {
            let (engine, folder) = (Engine::default(), tempfile::tempdir().unwrap());
            let rig = Self { engine, folder };
            let another = Component::new(&rig.engine, wat::parse_str(ANOTHER).unwrap()).unwrap();
            let directory = Directory::open(&rig.directory()).unwrap();
            directory.write(&rig.name(), &another.serialize().unwrap()).unwrap();
            rig
        }

        fn directory(&self) -> PathBuf {
            self.folder.path().join("components")
        }

        fn name(&self) -> String {
            name(&self.engine, &wat::parse_str(ASKED_FOR).unwrap())
        }

        fn file(&self) -> PathBuf {
            self.directory().join(self.name())
        }

        /// Whether what is kept there is what is run.
        fn is_used(&self) -> bool {
            let wasm = wat::parse_str(ASKED_FOR).unwrap();
            let component = load(&self.engine, &wasm, Some(&self.directory())).unwrap();
            component.component_type().exports(&self.engine).count() == 1
        }
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_kept_in_a_directory_of_ours_is_run() {
        let rig = Rig::poisoned();
        assert!(rig.is_used());
        chmod(&rig.directory(), 0o755);
        assert!(rig.is_used(), "others may look");
    }

    #[test]
    fn a_directory_that_others_can_write_is_neither_read_nor_written() {
        for mode in [0o777, 0o770, 0o1777, 0o702] {
            let rig = Rig::poisoned();
            chmod(&rig.directory(), mode);
            let before = fs::read(rig.file()).unwrap();
            assert!(!rig.is_used(), "{mode:o}");
            assert_eq!(fs::read(rig.file()).unwrap(), before, "{mode:o}");
            fs::remove_file(rig.file()).unwrap();
            assert!(!rig.is_used(), "{mode:o}");
            assert_eq!(fs::read_dir(rig.directory()).unwrap().count(), 0, "{mode:o}");
        }
    }

    #[test]
    fn links_lead_to_nothing_that_is_run() {
        let rig = Rig::poisoned();
        let elsewhere = rig.folder.path().join("elsewhere");
        fs::rename(rig.directory(), &elsewhere).unwrap();
        symlink(&elsewhere, rig.directory()).unwrap();
        assert!(!rig.is_used(), "a link in the place of the directory");

        let rig = Rig::poisoned();
        let elsewhere = rig.folder.path().join("elsewhere");
        fs::rename(rig.file(), &elsewhere).unwrap();
        symlink(&elsewhere, rig.file()).unwrap();
        assert!(!rig.is_used(), "a link in the place of the file");
        assert!(fs::symlink_metadata(rig.file()).unwrap().is_file(), "it is made anew");
    }

    #[test]
    fn a_file_that_others_can_write_is_made_anew() {
        let rig = Rig::poisoned();
        chmod(&rig.file(), 0o666);
        assert!(!rig.is_used());
        assert_eq!(fs::metadata(rig.file()).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_nobody_uses_goes_and_what_is_used_stays() {
        let rig = Rig::poisoned();
        let directory = Directory::open(&rig.directory()).unwrap();
        let lay = |name: &str, age: Duration| {
            directory.write(name, b"code").unwrap();
            let file = File::options().write(true).open(rig.directory().join(name)).unwrap();
            let then = SystemClock.now() - age;
            file.set_times(FileTimes::new().set_accessed(then).set_modified(then)).unwrap();
        };
        let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
        lay("old.cwasm", 31 * day);
        lay("used.cwasm", 31 * day);
        lay("young.cwasm", 29 * day);
        lay("left.cwasm.0123", 2 * hour);
        lay("going.cwasm.0123", hour / 2);
        lay("notes.txt", 99 * day);
        directory.read("used.cwasm").unwrap();
        // One that is made removes what is not used.
        fs::remove_file(rig.file()).unwrap();
        assert!(!rig.is_used());
        let files = fs::read_dir(rig.directory()).unwrap();
        let mut left: Vec<_> =
            files.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        left.retain(|name| *name != rig.name());
        left.sort();
        assert_eq!(left, ["going.cwasm.0123", "notes.txt", "used.cwasm", "young.cwasm"]);
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        assert_eq!(refusal(1000, 0o100_600, 1000), None);
        assert_eq!(refusal(1001, 0o100_600, 1000), Some("it is another user's"));
        assert_eq!(refusal(0, 0o040_755, 1000), Some("it is another user's"));
        assert_eq!(refusal(1000, 0o040_775, 1000), Some("others can write it"));
    }
}
