#![doc = include_str!("../README.md")]

pub mod capture;
pub mod follow;
pub mod ltx;
mod page;
mod probe;
mod replication;
pub mod restore;
pub mod store;
mod txid;
pub mod upkeep;
pub mod uplink;
pub mod wal;

pub use page::{PageSize, Pgno};
pub use probe::is_database;
pub use replication::Replication;
pub use txid::{Txid, TxidRange};
