//! Times that the kernel did not run a program because it would have interrupted itself.

use std::os::fd::{AsFd, AsRawFd};

use super::Kernel;

impl Kernel {
    /// Of all programs together, since they were loaded. The kernel tells it in a descriptor's `fdinfo` (5.12 and newer).
    pub fn recursion_misses(&self) -> u64 {
        let loaded = self.ebpf.programs().filter_map(|(_, program)| program.fd().ok());
        loaded.filter_map(|program| misses_of(program.as_fd().as_raw_fd())).sum()
    }
}

fn misses_of(descriptor: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:")).and_then(|count| count.trim().parse().ok())
}
