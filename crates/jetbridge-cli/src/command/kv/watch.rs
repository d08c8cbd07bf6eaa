//! `watch`.

use jetbridge_core::{Change, Result, Revision, Start, Watch};

use super::Words;
use crate::args::kv;
use crate::follow::{Next, next};
use crate::report::Status;
use crate::view::entry::ChangeView;

impl Words<'_> {
    pub(super) async fn watch(&self, args: kv::Watch) -> Result<Status> {
        let printer = self.on.printer;
        let mut watch = Watch::current(self.scope(&args.keys.choice)?).start(start(&args));
        watch.keys_only = args.keys_only;
        let view = if args.keys_only { ChangeView::keys_only } else { ChangeView::whole };
        let mut changes = self.open(&args.keys.bucket).await?.watch(watch);
        let mut stop = self.on.interrupt.claim();
        let mut left = args.count;
        while left != Some(0) {
            let Next::Item(change) = next(&mut changes, printer, &mut stop).await? else { break };
            printer.value(&view(&change))?;
            if change != Change::CaughtUp {
                left = left.map(|left| left - 1);
            }
        }
        Ok(stop.status(left.is_some_and(|left| left > 0)))
    }
}

fn start(args: &kv::Watch) -> Start {
    match args.after {
        Some(revision) => Start::After(Revision(revision)),
        None if args.history => Start::History,
        None if args.updates_only => Start::Now,
        None => Start::Current,
    }
}
