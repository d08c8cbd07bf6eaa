//! `jetbridge copy` from a directory to a server, with its verification.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jetbridge_core::{Backend as _, Key, ObjectName, ObjectPut, ObjectsExt as _, PutOpts};
use jetbridge_local::{LocalBackend, LocalOptions};
use tokio::process::Command;

use super::Sizes;
use crate::Outcome;
use crate::report::{Report, Row, Target};
use crate::suite::object::random_body;
use crate::suite::template::command;
use crate::suite::{bucket, ensure, value};

const OBJECTS: &str = "files";
const KEYS: &str = "settings";
/// MiB of each object.
const OBJECT_MIB: usize = 8;
/// Writes under way at once when the source is filled.
const WRITERS: usize = 512;

pub(super) async fn run(nats: &str, (on, sizes): (&str, Sizes), report: &mut Report) -> Outcome {
    let directory = tempfile::tempdir()?;
    fill(directory.path(), sizes).await?;
    let from = format!("local:{}", directory.path().display());
    let seconds = copy(&from, nats, OBJECTS).await?;
    let (mib, keys) = (sizes.copied_mib, sizes.copied_keys);
    let name = format!("copy of {mib} MiB in objects, local → NATS, verified");
    let row = Row::alone(&name, "MiB/s", on, mib as f64 / seconds);
    report.add(row.target(Target::AtLeast(200.0)));
    let seconds = copy(&from, nats, KEYS).await?;
    let name = format!("copy of {keys} keys, local → NATS, verified");
    let row = Row::alone(&name, "keys/s", on, keys as f64 / seconds);
    report.add(row.target(Target::AtLeast(50_000.0)));
    Ok(())
}

async fn fill(directory: &Path, sizes: Sizes) -> Outcome {
    let store = LocalBackend::open(directory, LocalOptions::default()).await?;
    let objects = store.objects(&bucket(OBJECTS)?, ensure()).await?;
    for number in 0..sizes.copied_mib / OBJECT_MIB {
        let name = ObjectName::parse(format!("file{number:04}"))?;
        objects.put_bytes(&name, random_body(OBJECT_MIB << 20), ObjectPut::new()).await?;
    }
    let kv = store.kv(&bucket(KEYS)?, ensure()).await?;
    let put = async |number: usize| -> Outcome {
        let key = Key::parse(format!("app/{number:07}"))?;
        kv.put(&key, value(), PutOpts::new()).await?;
        Ok(())
    };
    let puts = stream::iter(0..sizes.copied_keys).map(put).buffer_unordered(WRITERS);
    puts.try_collect::<()>().await
}

/// How long it takes, in seconds, as a user sees it.
async fn copy(from: &str, to: &str, bucket: &str) -> Outcome<f64> {
    let mut copy = Command::new(command()?);
    copy.args(["copy", from, to, "--bucket", bucket]).stdin(Stdio::null()).kill_on_drop(true);
    let begin = Instant::now();
    let output = copy.output().await?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(begin.elapsed().as_secs_f64())
}
