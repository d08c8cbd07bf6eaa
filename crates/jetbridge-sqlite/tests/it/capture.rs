//! Capture, proven on what a directory was given: replayed, it is the database page by page.

mod app;
mod child;
mod clock;
mod faults;
mod folder;
mod followed;
mod followed_anew;
mod full;
mod history;
mod hole;
mod idle;
mod killed;
mod large;
mod load;
mod plain;
mod rebased;
mod refusals;
mod replaced;
mod shapes;
mod source;
pub(crate) mod stores;
mod storm;
