//! The seam on a directory, for several processes at once.

#![cfg_attr(not(test), expect(dead_code, reason = "the store on top of it follows"))]

mod bus;
#[cfg(test)]
mod child;
mod commit;
mod consumer;
mod db;
mod fault;
mod hub;
mod lock;
mod stream;

pub use db::Durability;
