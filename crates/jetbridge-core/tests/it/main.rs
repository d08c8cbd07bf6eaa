//! The tests of jetbridge-core, in one binary.

#[cfg(test)]
mod memory;
#[cfg(test)]
mod support;
