//! Configuration: one TOML file, every key with a default, unknown keys refused with the nearest name.

use std::fs;
use std::path::{Path, PathBuf};

use collector_common::deny::{HARDEN_BPF, HARDEN_MODULE, HARDEN_PTRACE};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy;
use crate::sinks::SinkConfig;

/// Where the file is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/stockade/stockade.toml";

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The process itself.
    pub agent: Agent,
    /// What is watched.
    pub scope: Scope,
    /// The kernel side.
    pub kernel: Kernel,
    /// What nobody may do who is not protected.
    pub harden: Harden,
    /// The model.
    pub model: Model,
    /// Findings and decisions.
    pub policy: policy::Config,
    /// Where findings and decisions go besides the store.
    pub sinks: Vec<SinkConfig>,
}

/// The process itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// Database and snapshots.
    pub state_dir: PathBuf,
    /// Socket of the command line, mode 0660.
    pub socket: PathBuf,
    /// Group whose members may look; only root may change anything. Without one only root may look, too.
    pub group: Option<String>,
    /// What a clean stop does with denials in force.
    pub on_exit: OnExit,
    /// Keep every kernel record in this file too, for `stockade replay`.
    pub record: Option<PathBuf>,
    /// How much faster event time runs until the first workload has left learning: for the demo. 1 in operation.
    pub clock_factor: f64,
}

/// What a clean stop does with denials in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// They last until their deadlines.
    #[default]
    Keep,
    /// They are removed.
    Release,
}

/// What is watched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// A directory of the cgroup v2 hierarchy; without it the whole host.
    pub cgroup: Option<PathBuf>,
}

/// The kernel side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kernel {
    /// Size of the ring for process, deny and early records: a power of two, 64 KiB to 64 MiB.
    pub ctrl_bytes: u32,
    /// Size of the ring for windows and flows: a power of two, 64 KiB to 256 MiB.
    pub bulk_bytes: u32,
    /// Longest time that a window stays open, in milliseconds.
    pub window_age_ms: u64,
    /// BPF file system for what outlives the agent.
    pub bpffs: PathBuf,
    /// Time after which a known use of a directory is told again, in milliseconds.
    pub file_again_ms: u64,
    /// Unix sockets that isolation closes besides those of container runtimes, the system bus and systemd.
    pub hatches: Vec<PathBuf>,
}

/// Host-hardening switches: what nobody may do who is not protected. All need LSM programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Harden {
    /// Attaching to other processes: debuggers, /proc/PID/mem.
    pub ptrace: bool,
    /// Loading kernel modules.
    pub modules: bool,
    /// Calling bpf(2). Other BPF users on this host stop working, unless they are protected.
    pub bpf: bool,
}

impl Harden {
    /// As the kernel programs want it.
    pub fn switches(self) -> u32 {
        let switch = |on: bool, bit: u32| if on { bit } else { 0 };
        switch(self.ptrace, HARDEN_PTRACE) | switch(self.modules, HARDEN_MODULE) | switch(self.bpf, HARDEN_BPF)
    }
}

/// The model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Seed of everything random.
    pub seed: u64,
    /// Episodes a day that may exceed the threshold once it is calibrated.
    pub budget_per_day: f64,
    /// MiB on disk for what the model was told: how far back an incident can be unlearnt. 0 = nothing is kept.
    pub history_mib: u64,
    /// Snapshot to begin with while nothing was learnt here yet, as `stockade-trainer train` writes it.
    pub start: Option<PathBuf>,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/stockade".into(),
            socket: "/run/stockade/stockade.sock".into(),
            group: None,
            on_exit: OnExit::Keep,
            record: None,
            clock_factor: 1.0,
        }
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            ctrl_bytes: 1 << 20,
            bulk_bytes: 8 << 20,
            window_age_ms: 2_000,
            bpffs: crate::loader::BPFFS.into(),
            file_again_ms: 600_000,
            hatches: Vec::new(),
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        let params = model::Params::default();
        Self { seed: params.seed, budget_per_day: params.budget_per_day, history_mib: 512, start: None }
    }
}

/// Why a configuration is refused. Nothing was changed.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// It is not TOML, or a key is unknown or of another type.
    #[error("{}: {text}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with line and column, and the nearest name of an unknown key.
        text: String,
    },
    /// A value is out of its range.
    #[error("{}: {text}", path.display())]
    Range {
        /// Which file.
        path: PathBuf,
        /// Which setting, what it is and what is possible.
        text: String,
    },
}

impl Config {
    /// Reads and checks a file. Without one, the default file is read if it is there, else the defaults hold.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, parsed or is out of range.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Read { path: file.to_path_buf(), source }),
        };
        Self::parse(&text, file)
    }

    /// Parses and checks a text; `path` is only named in errors.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.to_path_buf(),
            text: with_nearest(error.to_string().trim_end()),
        })?;
        config.check().map_err(|text| ConfigError::Range { path: path.to_path_buf(), text })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let ring = |name: &str, bytes: u32, most: u32| {
            let fits = bytes.is_power_of_two() && (64 << 10..=most).contains(&bytes);
            if fits { Ok(()) } else { Err(format!("kernel.{name} is {bytes}: a power of two from 65536 to {most}")) }
        };
        ring("ctrl_bytes", self.kernel.ctrl_bytes, 64 << 20)?;
        ring("bulk_bytes", self.kernel.bulk_bytes, 256 << 20)?;
        if !(10..=60_000).contains(&self.kernel.window_age_ms) {
            return Err(format!("kernel.window_age_ms is {}: 10 to 60000", self.kernel.window_age_ms));
        }
        if !(100..=86_400_000).contains(&self.kernel.file_again_ms) {
            return Err(format!("kernel.file_again_ms is {}: 100 to 86400000", self.kernel.file_again_ms));
        }
        if !(1.0..=1e6).contains(&self.agent.clock_factor) {
            return Err(format!(
                "agent.clock_factor is {}: 1 in operation, up to 1000000 in a demo",
                self.agent.clock_factor
            ));
        }
        self.params().check().map_err(|error| format!("model: {error}"))?;
        self.policy.check()
    }

    /// Parameters of the model.
    pub fn params(&self) -> model::Params {
        model::Params { seed: self.model.seed, budget_per_day: self.model.budget_per_day, ..model::Params::default() }
    }

    /// The database.
    pub fn store(&self) -> PathBuf {
        self.agent.state_dir.join("stockade.db")
    }
}

/// Adds the nearest known name to "unknown field `x`, expected one of `a`, `b`".
fn with_nearest(text: &str) -> String {
    let mut quoted = text.split('`').skip(1).step_by(2);
    let (true, Some(unknown)) = (text.contains("unknown field"), quoted.next()) else { return text.to_owned() };
    let nearest = quoted.min_by_key(|known| distance(unknown, known));
    nearest.map_or_else(|| text.to_owned(), |nearest| format!("{text}\ndid you mean `{nearest}`?"))
}

/// Edit distance (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("test.toml"))
    }

    #[test]
    fn an_empty_file_is_the_defaults_and_they_round_trip() {
        let config = parse("").expect("defaults");
        assert_eq!(config, Config::default());
        let text = toml::to_string(&config).expect("a text");
        assert_eq!(parse(&text).expect("the same"), config);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_name_and_its_line() {
        let error = parse("[agent]\nsockett = \"/x\"\n").expect_err("a typo").to_string();
        assert!(error.contains("line 2") && error.contains("did you mean `socket`?"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (text, name) in [
            ("[kernel]\nctrl_bytes = 1000", "kernel.ctrl_bytes"),
            ("[kernel]\nwindow_age_ms = 0", "kernel.window_age_ms"),
            ("[agent]\nclock_factor = 0.5", "agent.clock_factor"),
            ("[model]\nbudget_per_day = -1.0", "budget_per_day"),
            ("[policy]\nttl_seconds = 0", "policy.ttl_seconds"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = parse(&text);
        }
    }
}
