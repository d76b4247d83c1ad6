//! `stockade demo`: a real workload, a real intrusion, a real denial, in its own cgroup and network namespace.

pub mod shop;
pub mod stage;
