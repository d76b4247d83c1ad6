//! Puts the kernel programs in place and says what could not be.
//!
//! ```text
//! object ─► offsets from the kernel's BTF ─► maps (new or pinned) ─► attach table ─► what works, what is off
//! ```

mod attach;
pub mod btf;
pub mod canary;
mod file_id;
mod offsets;
mod pins;
pub mod privilege;
pub mod probe;
mod recursion;
mod remedy;
mod selfcheck;
pub mod sensitive;
mod sweep;
mod tell;
mod tree;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader};
use collector_common::deny::Action;
use collector_common::map::Lineage;
use collector_common::stats::{Program, Stats};
use rustix::io::Errno;
use thiserror::Error;

pub use self::attach::{Attached, Hook, Row, TABLE};
pub use self::file_id::identify;
pub use self::offsets::KERNEL_BTF;
pub use self::pins::{BPFFS, Pins};
pub use self::remedy::reason;

/// The kernel object that this binary was built with; empty when it was built without one.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/stockade.bpf.o"));

/// Maps that live on with the pinned programs.
const PINNED_MAPS: &[&str] = &[
    "ctrl",
    "stats",
    "control",
    "lineage",
    "deny_tree",
    "deny_cgroup",
    "deny_address",
    "deny_file",
    "hatches",
    "hits",
    "deny_seen",
    "breaker_seen",
];

/// Why the programs could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Built without kernel programs.
    #[error("this binary was built without kernel programs: build it with `cargo xtask bpf` and then again")]
    NoObject,
    /// Not enough capabilities.
    #[error("cannot load kernel programs without {missing}; nothing was loaded: {}", privilege::REMEDY)]
    Privilege {
        /// Their names.
        missing: String,
    },
    /// A user or pid namespace of its own.
    #[error("cannot watch the host from a {kind} namespace of its own, nothing was loaded: it takes {fix}")]
    Namespace {
        /// Which kind.
        kind: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// A program without which nothing can be attributed was refused.
    #[error(
        "the kernel refused the program {program}: {why}. Lost without it: {lost}; so nothing was left in the kernel. What helps: {fix}; `stockade doctor` says more"
    )]
    Blind {
        /// Which.
        program: &'static str,
        /// The kernel's reason.
        why: String,
        /// What it is for.
        lost: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// The kernel does not show its types.
    #[error("cannot read the kernel's types from {}: {source}; Stockade needs a kernel with CONFIG_DEBUG_INFO_BTF", path.display())]
    NoBtf {
        /// Which file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The types cannot be parsed.
    #[error("cannot parse the kernel's types: {0}")]
    BadBtf(String),
    /// A field has gone.
    #[error(
        "this kernel has no {field}, which the programs read: this version does not support it, nothing was loaded"
    )]
    NoField {
        /// `struct.field`.
        field: String,
    },
    /// A BPF file system that takes nothing.
    #[error(
        "the BPF file system at {} is mounted read-only, so no denial could outlive the agent and nothing was loaded: `mount -o remount,rw {}`, or set kernel.bpffs",
        path.display(),
        path.display()
    )]
    ReadOnlyPins {
        /// Where.
        path: PathBuf,
    },
    /// No BPF file system.
    #[error("no BPF file system at {} and none can be mounted there: {source}; run as root, or set kernel.bpffs", path.display())]
    NoPins {
        /// Where.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The scope's cgroup is not there.
    #[error("cannot use the cgroup {}: {source}; it must be a directory of the cgroup v2 hierarchy", path.display())]
    Cgroup {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Maps take memory.
    #[error(
        "there is no memory for {what}; nothing was loaded: smaller kernel.ctrl_bytes and kernel.bulk_bytes, or a higher memory limit of the service"
    )]
    NoMemory {
        /// Which map, where it is known.
        what: String,
    },
    /// The kernel refused the object.
    #[error("the kernel refused the object: {0}; run `stockade doctor`")]
    Refused(String),
    /// A map of the object is missing or of another type.
    #[error("the kernel object has no map {0} of the expected type: it was built from other sources")]
    NoMap(&'static str),
}

/// How to load.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// The cgroup that the programs are confined to; `None` = the whole host.
    pub scope: Option<PathBuf>,
    /// Where the cgroup v2 hierarchy is mounted; programs without a scope are attached there.
    pub cgroup_mount: Option<PathBuf>,
    /// BPF file system for pins; `None` = nothing outlives the agent.
    pub bpffs: Option<PathBuf>,
    /// Size of the ctrl ring in bytes, a power of two.
    pub ctrl_bytes: u32,
    /// Size of the bulk ring in bytes, a power of two.
    pub bulk_bytes: u32,
    /// Longest time that a window stays open.
    pub window_age: Duration,
    /// Time after which a known use of a directory is told again.
    pub file_again: Duration,
    /// Thread group whose calls are skipped: the agent's own.
    pub skip_tgid: u32,
    /// Other sizes of maps, by name: for tests of what happens when one is full.
    pub map_entries: &'static [(&'static str, u32)],
    /// Only these programs, for benchmarks; `None` = all.
    pub only: Option<&'static [&'static str]>,
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self {
            scope: None,
            cgroup_mount: None,
            bpffs: None,
            ctrl_bytes: 1 << 20,
            bulk_bytes: 8 << 20,
            window_age: Duration::from_secs(2),
            file_again: Duration::from_secs(600),
            skip_tgid: std::process::id(),
            map_entries: &[],
            only: None,
        }
    }
}

/// The programs in the kernel. Dropping it detaches everything that is not pinned.
pub struct Kernel {
    ebpf: Ebpf,
    attached: Vec<Attached>,
    missing: Vec<String>,
    pins: Option<Pins>,
    scope: Option<PathBuf>,
    took: Duration,
    /// Nothing of ours was pinned before.
    first: bool,
}

impl Kernel {
    /// Loads the object and attaches what this kernel allows.
    ///
    /// # Errors
    ///
    /// When nothing can work: no object, no BTF, a required field missing, the maps refused. A single program that cannot
    /// be attached is not an error; see [`Kernel::attached`].
    pub fn load(options: &KernelOptions) -> Result<Self, LoadError> {
        let began = Instant::now();
        if OBJECT.is_empty() {
            return Err(LoadError::NoObject);
        }
        may_load()?;
        let offsets = offsets::Offsets::of_kernel()?;
        let btf = Btf::from_sys_fs().map_err(|error| LoadError::BadBtf(error.to_string()))?;
        let scope = scope_of(options)?;
        let pins = options.bpffs.as_deref().map(Pins::open).transpose()?;
        let first = pins.as_ref().is_some_and(|pins| pins.names().is_empty());

        let mut settings: Vec<(&str, u64)> = offsets.globals;
        settings.extend([
            ("SCOPE_CGROUP", scope.as_ref().map_or(0, |scope| scope.id)),
            ("SCOPE_LEVEL", scope.as_ref().map_or(0, |scope| scope.level)),
            ("SELF_TGID", u64::from(options.skip_tgid)),
            ("MAX_AGE_JIFFIES", jiffies(options.window_age)),
            ("FILE_AGAIN_NS", options.file_again.as_nanos() as u64),
        ]);
        let pinned: Vec<(&str, PathBuf)> =
            pins.iter().flat_map(|pins| PINNED_MAPS.iter().map(|name| (*name, pins.map(name)))).collect();
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&btf)).allow_unsupported_maps();
        loader.map_max_entries("ctrl", options.ctrl_bytes).map_max_entries("bulk", options.bulk_bytes);
        for (name, entries) in options.map_entries {
            loader.map_max_entries(name, *entries);
        }
        for (name, value) in &settings {
            loader.override_global(name, value, false);
        }
        for (name, path) in &pinned {
            loader.map_pin_path(name, path.as_path());
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| {
            if let Some(pins) = pins.as_ref().filter(|_| first) {
                pins.give_up();
            }
            refused(error)
        })?;

        let directory = options.scope.as_deref().or(options.cgroup_mount.as_deref());
        let cgroup = directory
            .map(|path| {
                attach::open_cgroup(path).map_err(|source| LoadError::Cgroup { path: path.to_path_buf(), source })
            })
            .transpose()?;
        let attached = attach::attach_all(&mut ebpf, &btf, cgroup.as_ref(), pins.as_ref(), options.only);
        let scope = options.scope.clone();
        let mut kernel = Self { ebpf, attached, missing: offsets.missing, pins, scope, took: Duration::ZERO, first };
        kernel.name_sensitive_files()?;
        kernel.took = began.elapsed();
        Ok(kernel)
    }

    /// This, if it sees who does what; else everything that it put in place goes again. An agent that was there before keeps
    /// its denials.
    ///
    /// # Errors
    ///
    /// The first essential program that the kernel refused, with what to do.
    pub fn seeing(self) -> Result<Self, LoadError> {
        let blind = self.attached.iter().find_map(|row| {
            let why = row.off.as_deref().filter(|_| row.is_essential())?;
            let (program, lost, fix) = (row.row.program, row.row.lost, remedy::remedy(row.row.hook, why));
            Some(LoadError::Blind { program, why: remedy::reason(why).to_owned(), lost, fix })
        });
        let Some(blind) = blind else { return Ok(self) };
        if let Some(pins) = self.new_pins() {
            pins.give_up();
        }
        Err(blind)
    }

    /// What works and what is off.
    pub fn attached(&self) -> &[Attached] {
        &self.attached
    }

    /// Optional fields that this kernel does not have.
    pub fn missing_fields(&self) -> &[String] {
        &self.missing
    }

    /// Where things are pinned, if nothing of ours was pinned there before: what to remove when the start comes to nothing.
    pub fn new_pins(&self) -> Option<Pins> {
        self.pins.clone().filter(|_| self.first)
    }

    /// Where things are pinned.
    pub fn pins(&self) -> Option<&Pins> {
        self.pins.as_ref()
    }

    /// The cgroup that the programs are confined to.
    pub fn scope(&self) -> Option<&Path> {
        self.scope.as_deref()
    }

    /// What the kernel knows of a process.
    pub fn lineage(&self, tgid: u32) -> Option<Lineage> {
        let entries: HashMap<_, u32, Lineage> = HashMap::try_from(self.ebpf.map("lineage")?).ok()?;
        entries.get(&tgid, 0).ok()
    }

    /// Compares what the programs read with `/proc`, before anything is enforced.
    ///
    /// # Errors
    ///
    /// What differs: then nothing may be denied on this kernel.
    pub fn self_check(&self) -> Result<String, String> {
        selfcheck::agrees(self)
    }

    /// How long BTF, load and attach took.
    pub fn load_time(&self) -> Duration {
        self.took
    }

    /// The rings, ctrl and bulk; once.
    ///
    /// # Errors
    ///
    /// When they were taken before.
    pub fn take_rings(&mut self) -> Result<(RingBuf<MapData>, RingBuf<MapData>), LoadError> {
        let mut ring = |name| RingBuf::try_from(self.take(name)?).map_err(|_| LoadError::NoMap(name));
        Ok((ring("ctrl")?, ring("bulk")?))
    }

    /// Takes a map out of the object, for the stage that owns it.
    ///
    /// # Errors
    ///
    /// When there is no such map, or it was taken before.
    pub fn take(&mut self, name: &'static str) -> Result<Map, LoadError> {
        self.ebpf.take_map(name).ok_or(LoadError::NoMap(name))
    }

    /// Another handle to a map, for a stage that writes it on its own.
    ///
    /// # Errors
    ///
    /// When there is no such map.
    pub fn duplicate(&self, name: &'static str) -> Result<Map, LoadError> {
        let missing = || LoadError::NoMap(name);
        let data = match self.ebpf.map(name).ok_or_else(missing)? {
            Map::Array(data) | Map::HashMap(data) | Map::LpmTrie(data) | Map::PerCpuArray(data) => data,
            _ => return Err(missing()),
        };
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(|_| missing())?;
        MapData::from_fd(fd).and_then(Map::from_map_data).map_err(|_| missing())
    }

    /// What every program counted on every CPU.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn stats(&self) -> Result<Vec<(Program, u32, Stats)>, LoadError> {
        let map = self.ebpf.map("stats").ok_or(LoadError::NoMap("stats"))?;
        let stats: PerCpuArray<_, Stats> = PerCpuArray::try_from(map).map_err(|_| LoadError::NoMap("stats"))?;
        let mut rows = Vec::new();
        for program in Program::ALL {
            let values = stats.get(&(program as u32), 0).map_err(|_| LoadError::NoMap("stats"))?;
            rows.extend(values.iter().enumerate().map(|(cpu, stats)| (program, cpu as u32, *stats)));
        }
        Ok(rows)
    }

    /// Whether an action is denied on this kernel: its programs are attached and, for LSM, proven.
    pub fn denies(&self, action: Action) -> bool {
        let program = match action {
            Action::Connect => "deny_connect4",
            Action::Egress => "deny_egress",
            Action::Exec => "deny_exec",
            Action::OpenWrite => "deny_open",
            Action::Hatch => "deny_hatch",
            Action::Tamper => "deny_ptrace",
        };
        self.attached.iter().any(|done| done.row.program == program && done.off.is_none())
    }
}

/// Whether this process has what the kernel asks for.
fn may_load() -> Result<(), LoadError> {
    if let Some(foreign) = privilege::foreign_namespaces().first() {
        return Err(LoadError::Namespace { kind: foreign.kind, fix: foreign.fix });
    }
    let missing = privilege::required_and_lacking();
    if missing.is_empty() { Ok(()) } else { Err(LoadError::Privilege { missing: missing.join(", ") }) }
}

struct Scope {
    id: u64,
    level: u64,
}

/// A cgroup's id is its directory's inode; its level is its depth below the mount.
fn scope_of(options: &KernelOptions) -> Result<Option<Scope>, LoadError> {
    let Some(path) = &options.scope else { return Ok(None) };
    let failed = |source| LoadError::Cgroup { path: path.clone(), source };
    let id = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).map_err(failed)?);
    let mount = options.cgroup_mount.clone().or_else(mount_of_cgroup2).unwrap_or_default();
    let below = path.strip_prefix(&mount).map_err(|_| failed(io::Error::other("not below the cgroup v2 mount")))?;
    Ok(Some(Scope { id, level: below.components().count() as u64 }))
}

/// Where the cgroup v2 hierarchy is mounted.
pub fn mount_of_cgroup2() -> Option<PathBuf> {
    crate::enrich::cgroup::unified_mount(&std::fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// Jiffies of a duration; `CONFIG_HZ` is found out by what the clock ticks in `/proc/timer_list` cannot say without root, so
/// the common upper bound of 1000 is used: a window is closed no later than told.
fn jiffies(duration: Duration) -> u64 {
    (duration.as_millis() as u64).max(1) / 4
}

fn refused(error: EbpfError) -> LoadError {
    match &error {
        EbpfError::MapError(MapError::CreateError { name, io_error })
            if io_error.raw_os_error() == Some(Errno::NOMEM.raw_os_error()) =>
        {
            LoadError::NoMemory { what: format!("the map {name}") }
        }
        _ => LoadError::Refused(chain(&error)),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Programs of ours that are loaded in this kernel, whoever loaded them.
pub fn own_programs() -> usize {
    let is_ours = |name: &str| TABLE.iter().any(|row| row.program.len() > 7 && row.program.starts_with(name));
    let loaded = aya::programs::loaded_programs().flatten();
    // The kernel cuts names at fifteen bytes; names that others may have too (`exec`, `fork`) are not counted.
    loaded.filter(|program| program.name_as_str().is_some_and(|name| name.len() > 7 && is_ours(name))).count()
}

/// Whether this kernel takes tracing programs at all.
pub fn bpf_works() -> bool {
    aya::sys::is_program_supported(aya::programs::ProgramType::RawTracePoint).unwrap_or(false)
}
