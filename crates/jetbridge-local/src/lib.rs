//! The seam on a directory, for several processes at once.

#![cfg_attr(not(test), expect(dead_code, reason = "the store on top of it follows"))]

mod commit;
mod db;
mod fault;
mod hub;
mod lock;

pub use db::Durability;
