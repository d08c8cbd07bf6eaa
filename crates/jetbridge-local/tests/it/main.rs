//! The tests of jetbridge-local, in one binary: the contract over a directory, in one process and
//! in several, and what a store on disk promises beyond it.

#[cfg(test)]
mod child;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod generations;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod local;
#[cfg(test)]
mod local_3_processes;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod support;
