//! The files of a replica: how they are called, which there are, and how they are read and
//! written.
//!
//! A replica is the objects `<path>/ltx/<level>/<first>-<last>.ltx` of one bucket, as Litestream
//! names them. Level 0 has what was captured, each level above it what was merged of the one
//! below, level 9 whole databases. Nothing here knows a database or a WAL.

mod fetch;
mod level;
mod manifest;
mod plan;
mod replica;
mod words;

pub use fetch::{Fetch, Patience};
pub use level::Level;
pub use manifest::{LtxFile, Manifest};
pub use plan::{Plan, Target, plan, restorable};
pub(crate) use plan::{reach, reach_from};
pub(crate) use replica::is_file;
pub use replica::{BASE_HEADER, Put, Replica, TIMESTAMP_HEADER};
pub use words::{WORDS_OF_THE_PAGE, in_words_of_the_page};
