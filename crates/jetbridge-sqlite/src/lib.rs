#![doc = include_str!("../README.md")]

pub mod capture;
pub mod ltx;
mod page;
mod txid;
pub mod wal;

pub use page::{PageSize, Pgno};
pub use txid::{Txid, TxidRange};
