//! Compiled components, kept in a directory: compiling takes seconds where loading takes
//! milliseconds.
//!
//! A file is named by the component and by all of the engine that matters to its code, and holds
//! the digest of the rest of itself. What does not match is compiled anew; a directory that
//! cannot be used costs time and nothing else.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use jetbridge_core::Digest;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes of the digest that a file begins with.
const DIGEST_BYTES: usize = 32;

/// The component `wasm`, from `directory` if it is there, else compiled and put there.
pub(super) fn load(
    engine: &Engine,
    wasm: &[u8],
    directory: Option<&Path>,
) -> wasmtime::Result<Component> {
    let Some(directory) = directory else { return Component::new(engine, wasm) };
    let file = directory.join(name(engine, wasm));
    if let Some(component) = read(engine, &file) {
        return Ok(component);
    }
    let component = Component::new(engine, wasm)?;
    let kept = component.serialize().map_err(io::Error::other).and_then(|code| write(&file, &code));
    if let Err(error) = kept {
        tracing::debug!("{} was not kept: {error}", file.display());
    }
    Ok(component)
}

fn name(engine: &Engine, wasm: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let digest = Digest::of(wasm);
    let component: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{component}-{:016x}.cwasm", hasher.finish())
}

fn read(engine: &Engine, file: &Path) -> Option<Component> {
    let bytes = std::fs::read(file).ok()?;
    let (digest, code) = bytes.split_at_checked(DIGEST_BYTES)?;
    if Digest::of(code).as_bytes() != digest {
        tracing::debug!("{} is damaged: compiling anew", file.display());
        return None;
    }
    #[expect(
        unsafe_code,
        reason = "the code is ours: its digest was written with it, in a \
                                    directory that only its owner can write"
    )]
    let component = unsafe { Component::deserialize(engine, code) };
    component.ok()
}

/// Writes whole or not at all: others may be reading.
fn write(file: &Path, code: &[u8]) -> io::Result<()> {
    let directory = file.parent().ok_or_else(|| io::Error::other("it has no directory"))?;
    create_private(directory)?;
    let temporary =
        PathBuf::from(format!("{}.{:016x}", file.display(), jetbridge_core::random::u64()));
    let mut bytes = Digest::of(code).as_bytes().to_vec();
    bytes.extend_from_slice(code);
    let written =
        std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, file));
    if written.is_err()
        && let Err(error) = std::fs::remove_file(&temporary)
    {
        tracing::debug!("{} stays: {error}", temporary.display());
    }
    written
}

/// Makes a directory that nobody else can write. One that others can write is not used: code is
/// run from it.
fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if std::fs::metadata(directory)?.mode() & 0o022 != 0 {
        return Err(io::Error::other("others can write the directory"));
    }
    Ok(())
}
