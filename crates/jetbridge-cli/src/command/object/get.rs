//! `get`.

use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use jetbridge_core::{Error, ErrorKind, Object, Objects, Result};
use serde::Serialize;

use super::Words;
use crate::args::object::Get;
use crate::output::OutputFile;
use crate::printer::{Printer, Text, View};
use crate::progress::Progress;
use crate::report::Status;
use crate::view;
use crate::view::object::ObjectView;

/// Bytes of a body inside JSON at most: it has to fit into memory several times over.
const JSON_BYTES_MAX: u64 = 64 << 20;

impl Words<'_> {
    pub(super) async fn get(&self, args: Get) -> Result<Status> {
        let (bucket, name) = (&args.at.bucket, &args.at.name);
        let objects = self.open(bucket).await?;
        let Some(object) = read(&*objects, &args).await? else {
            return Ok(self.absent(bucket, name));
        };
        let info = ObjectView::of(bucket, &object.info);
        let printer = self.on.printer;
        match args.output.as_deref() {
            Some(path) if path != Path::new("-") => {
                let bytes = to_file(object, path, printer).await?;
                if printer.is_json() {
                    printer.value(&WithBody { object: info, body: None, body_base64: None })?;
                } else {
                    printer.note(format_args!("wrote {bytes} bytes to {}", path.display()));
                }
            }
            None if printer.is_json() => printer.value(&in_json(object, info).await?)?,
            explicit => {
                let garbles = explicit.is_none() && printer.is_terminal();
                to_stdout(object, garbles, printer).await?;
            }
        }
        Ok(Status::Done)
    }
}

/// The object, or the range of it that is wanted.
async fn read(objects: &dyn Objects, args: &Get) -> Result<Option<Object>> {
    let whole = objects.get(&args.at.name, None).await?;
    let Some(object) = whole else { return Ok(None) };
    if args.offset.is_none() && args.length.is_none() {
        return Ok(Some(object));
    }
    let size = object.info.size;
    let start = args.offset.unwrap_or(0);
    let end = args.length.map_or(size, |length| start.saturating_add(length).min(size));
    if start > size {
        return Err(Error::new(ErrorKind::InvalidInput, "object.get")
            .because("the offset is beyond the end")
            .with("offset", start)
            .with("size", size));
    }
    objects.get(&args.at.name, Some(start..end)).await
}

async fn to_file(mut object: Object, path: &Path, printer: &Printer) -> Result<u64> {
    let mut file = OutputFile::create(path)?;
    let progress = Progress::bytes(printer, Some(object.info.size));
    let mut total = 0;
    while let Some(chunk) = object.body.try_next().await? {
        file.write(&chunk)?;
        total += count(&chunk);
        progress.advance(count(&chunk));
    }
    file.commit()?;
    progress.finish();
    Ok(total)
}

async fn to_stdout(mut object: Object, garbles: bool, printer: &Printer) -> Result<()> {
    let progress = Progress::bytes(printer, Some(object.info.size));
    while let Some(chunk) = object.body.try_next().await? {
        if garbles && chunk.contains(&0) {
            return Err(Error::new(ErrorKind::InvalidInput, "object.get")
                .because("the object is binary and would garble the terminal")
                .hint("write it to a file with -o FILE, or here all the same with -o -"));
        }
        printer.bytes(&chunk)?;
        if !printer.is_terminal() {
            progress.advance(count(&chunk));
        }
    }
    progress.finish();
    Ok(())
}

async fn in_json(mut object: Object, info: ObjectView) -> Result<WithBody> {
    let mut bytes = Vec::new();
    while let Some(chunk) = object.body.try_next().await? {
        bytes.extend_from_slice(&chunk);
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > JSON_BYTES_MAX {
            return Err(Error::new(ErrorKind::LimitExceeded, "object.get")
                .because("the object is too large for JSON")
                .with("size", object.info.size)
                .with("max", JSON_BYTES_MAX)
                .hint("write it to a file with -o FILE"));
        }
    }
    let (body, body_base64) = view::bytes(&bytes);
    Ok(WithBody { object: info, body, body_base64 })
}

fn count(chunk: &Bytes) -> u64 {
    u64::try_from(chunk.len()).unwrap_or(u64::MAX)
}

/// An object with its bytes.
#[derive(Serialize)]
struct WithBody {
    #[serde(flatten)]
    object: ObjectView,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl View for WithBody {
    /// Only JSON has the two together.
    fn text(&self, _out: &mut Text) {}
}
