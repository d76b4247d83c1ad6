//! `stockade demo`: a real workload, a real intrusion, a real denial, in its own cgroup and network namespace.

mod account;
mod handle;
mod play;
pub mod shop;
pub mod stage;
