//! What `jetbridge-nats` promises, on real servers.

mod bus;
mod store;
