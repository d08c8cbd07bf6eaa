#![doc = include_str!("../README.md")]

pub mod capture;
pub mod ltx;
mod page;
mod replication;
pub mod restore;
pub mod store;
mod txid;
pub mod upkeep;
pub mod uplink;
pub mod wal;

pub use page::{PageSize, Pgno};
pub use replication::Replication;
pub use txid::{Txid, TxidRange};
