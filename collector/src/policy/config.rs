//! What an operator may set about findings and decisions.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;

/// The `[policy]` table of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long an automatic decision denies, in seconds of the boot clock.
    pub ttl_seconds: u64,
    /// The longest that an operator may ask for, in seconds.
    pub max_ttl_seconds: u64,
    /// How long a workload must show nothing new before it is ready, in seconds of the event clock.
    pub quiet_seconds: u64,
    /// Windows that a workload must have shown for the forest to know it.
    pub min_windows: u64,
    /// Executions that a workload must have shown.
    pub min_execs: u64,
    /// Share of its evidence that may have been lost, 0–1.
    pub max_lost: f64,
    /// Medium and High findings a day that are raised whatever they score.
    pub pages_per_day: u32,
    /// Automatic decisions that may be live at once.
    pub max_automatic: usize,
    /// Process trees that may be hit before an automatic decision is disarmed.
    pub breaker: u16,
    /// Login users (uids) whose sessions are never denied automatically.
    pub operators: Vec<u32>,
    /// Executables that are never denied, besides the built-in ones; full paths.
    pub protected_exes: Vec<String>,
    /// Addresses that are never denied to everybody, besides resolver, gateway, loopback and brokers.
    pub protected_addresses: Vec<IpNet>,
    /// Made by the demo or a test: no feed pages anybody.
    pub test: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ttl_seconds: 10 * 60,
            max_ttl_seconds: 7 * DAY / SECOND,
            quiet_seconds: 7 * DAY / SECOND,
            min_windows: 256,
            min_execs: 8,
            max_lost: 0.001,
            pages_per_day: 5,
            max_automatic: 16,
            breaker: 8,
            operators: Vec::new(),
            protected_exes: Vec::new(),
            protected_addresses: Vec::new(),
            test: false,
        }
    }
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    ///
    /// One sentence that names the setting, its value and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        if self.ttl_seconds == 0 || self.ttl_seconds > self.max_ttl_seconds {
            return Err(format!(
                "policy.ttl_seconds is {}: a denial needs a deadline between 1 and policy.max_ttl_seconds ({})",
                self.ttl_seconds, self.max_ttl_seconds
            ));
        }
        if !(0.0..=1.0).contains(&self.max_lost) {
            return Err(format!("policy.max_lost is {}: a share is a number from 0 to 1", self.max_lost));
        }
        if self.max_automatic == 0 {
            return Err("policy.max_automatic is 0: leave every workload in monitoring to deny nothing".to_owned());
        }
        Ok(())
    }

    /// [`Config::ttl_seconds`] in nanoseconds.
    pub fn ttl_ns(&self) -> u64 {
        self.ttl_seconds.saturating_mul(SECOND)
    }

    /// [`Config::quiet_seconds`] in nanoseconds.
    pub fn quiet_ns(&self) -> u64 {
        self.quiet_seconds.saturating_mul(SECOND)
    }
}
