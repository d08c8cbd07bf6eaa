//! What people trip over with a store in a directory.

use std::path::Path;

use jetbridge_core::{Check, Verdict};

use crate::backend::LocalOptions;
use crate::bucket::catalog::blocking;
use crate::db::Durability;
use crate::fault::from_io;

/// Below this many free bytes writes are about to fail.
const FREE_BYTES_LOW: u64 = 256 << 20;

/// The findings for the store in `directory`.
pub(crate) async fn checks(directory: &Path, options: &LocalOptions, closed: bool) -> Vec<Check> {
    let connection = if closed {
        Check::new("connection", Verdict::Fails, "the store is closed")
    } else {
        Check::new("connection", Verdict::Passes, "the store is open in this process")
    };
    let (path, durability) = (directory.to_owned(), options.durability);
    let disk = blocking(move || Ok(vec![can_write(&path), has_room(&path)])).await;
    let mut checks = vec![connection];
    checks.extend(disk.unwrap_or_default());
    checks.push(survives(durability));
    checks
}

fn can_write(directory: &Path) -> Check {
    let probe = directory.join(format!("layout.{}", jetbridge_core::random::name()));
    let written = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe));
    match written.map_err(|error| from_io(error, "local.diagnose", directory)) {
        Ok(()) => Check::new("permissions", Verdict::Passes, "the directory can be written"),
        Err(error) => {
            let check = Check::new("permissions", Verdict::Fails, error.to_string());
            match error.hint_text() {
                Some(hint) => check.hint(hint),
                None => check,
            }
        }
    }
}

fn has_room(directory: &Path) -> Check {
    let room = rustix::fs::statvfs(directory).map(|disk| disk.f_bavail * disk.f_frsize);
    match room {
        Ok(free) if free >= FREE_BYTES_LOW => {
            Check::new("disk", Verdict::Passes, format!("{} MiB are free", free >> 20))
        }
        Ok(free) => Check::new("disk", Verdict::Warns, format!("{} MiB are free", free >> 20))
            .hint("make room on the disk: writes fail when it is full"),
        Err(error) => Check::new("disk", Verdict::Warns, format!("unknown room: {error}")),
    }
}

fn survives(durability: Durability) -> Check {
    match durability {
        Durability::Full => {
            Check::new("durability", Verdict::Passes, "a power cut loses nothing; one copy")
        }
        Durability::Process => Check::new(
            "durability",
            Verdict::Passes,
            "the end of a process loses nothing, a power cut the last commits; one copy",
        )
        .hint("use `local:DIR?sync=full` where a power cut must lose nothing either"),
    }
}
