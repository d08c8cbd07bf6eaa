//! The tests of jetbridge-core, in one binary: the contract over the store in memory and over
//! every wrapper, and what each part promises beyond it.

#[cfg(test)]
mod counter;
#[cfg(test)]
mod ext;
#[cfg(test)]
mod lease;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod names;
#[cfg(test)]
mod process;
#[cfg(test)]
mod support;
#[cfg(test)]
mod wrap_limit;
#[cfg(test)]
mod wrap_observe;
#[cfg(test)]
mod wrap_prefix;
#[cfg(test)]
mod wrap_retry;
