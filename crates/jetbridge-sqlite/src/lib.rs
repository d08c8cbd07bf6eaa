#![doc = include_str!("../README.md")]

pub mod capture;
pub mod ltx;
mod page;
pub mod restore;
pub mod store;
mod txid;
pub mod uplink;
pub mod wal;

pub use page::{PageSize, Pgno};
pub use txid::{Txid, TxidRange};
