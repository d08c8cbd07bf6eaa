//! `incr` and `decr`.

use jetbridge_core::{CounterEncoding, Error, ErrorKind, IncrementOpts, Result};

use super::Words;
use crate::args::kv::{Encoding, Incr};
use crate::report::Status;
use crate::view::Number;

impl Words<'_> {
    pub(super) async fn add(&self, args: &Incr, by: i64) -> Result<Status> {
        let encoding = match args.encoding {
            Encoding::Be64 => CounterEncoding::Be64,
            Encoding::Decimal => CounterEncoding::Decimal,
            Encoding::Le64 => CounterEncoding::Le64,
        };
        let kv = self.open(&args.at.bucket).await?;
        let value = kv.increment(&args.at.key, by, IncrementOpts::new().encoding(encoding)).await?;
        self.on.printer.value(&Number { value })?;
        Ok(Status::Done)
    }

    pub(super) async fn subtract(&self, args: &Incr) -> Result<Status> {
        let by = args.by.checked_neg().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "kv.decrement")
                .because("the number is out of range")
                .with("number", args.by)
        })?;
        self.add(args, by).await
    }
}
