//! From the kernel's boot clock to the time of an event.

use std::time::{SystemTime, UNIX_EPOCH};

use model::event::Time;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The boot clock now, in nanoseconds, suspend included: what the kernel stamps records with.
pub fn boot_now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// Maps boot time to wall time: a pair of simultaneous readings, and a factor that a demo may raise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// Boot clock of the pair, nanoseconds.
    pub boot_ns: u64,
    /// Wall clock of the pair, nanoseconds since 1970.
    pub unix_ns: u64,
    /// Wall nanoseconds that pass in a boot nanosecond: 1 in operation, more on a demo's compressed clock.
    pub factor: f64,
}

impl Clock {
    /// The clock of this host, read now.
    pub fn now() -> Self {
        let before = boot_now();
        // A wall clock before 1970 is as wrong as 1970 itself.
        let unix_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let after = boot_now();
        Self::real(before + (after - before) / 2, unix_ns)
    }

    /// The clock of a running system, from two readings taken together.
    pub fn real(boot_ns: u64, unix_ns: u64) -> Self {
        Self { boot_ns, unix_ns, factor: 1.0 }
    }

    /// From the boot time `from_boot_ns` on, wall time goes `factor` times as fast; it does not jump.
    pub fn with_factor(&self, from_boot_ns: u64, factor: f64) -> Self {
        let factor = if factor.is_finite() && factor >= 0.0 { factor } else { 1.0 };
        Self { boot_ns: from_boot_ns, unix_ns: self.at(from_boot_ns).unix_ns, factor }
    }

    /// The time of an event that the kernel stamped with `boot_ns`; saturates instead of wrapping.
    pub fn at(&self, boot_ns: u64) -> Time {
        let unix_ns = match boot_ns.checked_sub(self.boot_ns) {
            Some(after) => self.unix_ns.saturating_add(self.scaled(after)),
            None => self.unix_ns.saturating_sub(self.scaled(self.boot_ns - boot_ns)),
        };
        Time { unix_ns, boot_ns }
    }

    fn scaled(&self, distance: u64) -> u64 {
        // Exact where nothing is scaled: a float has 53 bits, and nanoseconds of a long uptime need more.
        if self.factor == 1.0 { distance } else { (distance as f64 * self.factor) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_run_alike_in_operation() {
        let clock = Clock::real(1_000, 1_700_000_000_000_000_000);
        assert_eq!(clock.at(1_500).unix_ns, 1_700_000_000_000_000_500);
        assert_eq!(clock.at(400).unix_ns, 1_699_999_999_999_999_400);
        assert_eq!(Clock::real(u64::MAX, 5).at(0).unix_ns, 0);
    }

    #[test]
    fn this_hosts_clock_is_the_boot_clock_of_proc() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!((boot_now() as f64 / 1e9 - uptime).abs() < 5.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(Clock::now().at(boot_now()).unix_ns.abs_diff(now) < 5_000_000_000);
    }

    #[test]
    fn a_change_of_pace_does_not_jump() {
        let clock = Clock::real(0, 1_000_000);
        let fast = clock.with_factor(500, 3_600.0);
        assert_eq!(fast.at(500).unix_ns, clock.at(500).unix_ns);
        assert_eq!(fast.at(510).unix_ns - fast.at(500).unix_ns, 36_000);
        assert_eq!(fast.at(510).boot_ns, 510);
        assert_eq!(fast.with_factor(510, f64::NAN).factor, 1.0);
    }
}
