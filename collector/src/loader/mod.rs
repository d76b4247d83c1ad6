//! Puts the kernel programs in place and says what could not be.
//!
//! ```text
//! object ─► offsets from the kernel's BTF ─► maps (new or pinned) ─► attach table ─► what works, what is off
//! ```

mod attach;
pub mod btf;
mod offsets;
mod pins;
pub mod probe;
mod selfcheck;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::{Btf, Ebpf, EbpfLoader};
use collector_common::map::{Control, DestinationKey, LINEAGE_PROTECTED, Lineage, RowKey, SEEN_BITS};
use collector_common::stats::{Program, Stats};
use thiserror::Error;

pub use self::attach::{Attached, Hook, Row, TABLE};
pub use self::offsets::KERNEL_BTF;
pub use self::pins::{BPFFS, Pins};

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
    /// Thread group whose calls are skipped: the agent's own.
    pub skip_tgid: u32,
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
            skip_tgid: std::process::id(),
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
        let offsets = offsets::Offsets::of_kernel()?;
        let btf = Btf::from_sys_fs().map_err(|error| LoadError::BadBtf(error.to_string()))?;
        let scope = scope_of(options)?;
        let pins = options.bpffs.as_deref().map(Pins::open).transpose()?;

        let mut settings: Vec<(&str, u64)> = offsets.globals;
        settings.extend([
            ("SCOPE_CGROUP", scope.as_ref().map_or(0, |scope| scope.id)),
            ("SCOPE_LEVEL", scope.as_ref().map_or(0, |scope| scope.level)),
            ("SELF_TGID", u64::from(options.skip_tgid)),
            ("MAX_AGE_JIFFIES", jiffies(options.window_age)),
        ]);
        let pinned: Vec<(&str, PathBuf)> =
            pins.iter().flat_map(|pins| PINNED_MAPS.iter().map(|name| (*name, pins.map(name)))).collect();
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&btf)).allow_unsupported_maps();
        loader.map_max_entries("ctrl", options.ctrl_bytes).map_max_entries("bulk", options.bulk_bytes);
        for (name, value) in &settings {
            loader.override_global(name, value, false);
        }
        for (name, path) in &pinned {
            loader.map_pin_path(name, path.as_path());
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| LoadError::Refused(chain(&error)))?;

        let directory = options.scope.as_deref().or(options.cgroup_mount.as_deref());
        let cgroup = directory
            .map(|path| {
                attach::open_cgroup(path).map_err(|source| LoadError::Cgroup { path: path.to_path_buf(), source })
            })
            .transpose()?;
        let attached = attach::attach_all(&mut ebpf, &btf, cgroup.as_ref(), pins.as_ref(), options.only);
        Ok(Self { ebpf, attached, missing: offsets.missing, pins, scope: options.scope.clone(), took: began.elapsed() })
    }

    /// What works and what is off.
    pub fn attached(&self) -> &[Attached] {
        &self.attached
    }

    /// Optional fields that this kernel does not have.
    pub fn missing_fields(&self) -> &[String] {
        &self.missing
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

    /// Replaces the bitset of a row. The kernel only reads it, so a whole row can be written at once.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn fill_row(&mut self, row: u32, bits: &[u32]) -> Result<(), LoadError> {
        let mut words = [0u64; (SEEN_BITS / 64) as usize];
        for bit in bits {
            if let Some(word) = words.get_mut((bit / 64) as usize) {
                *word |= 1 << (bit % 64);
            }
        }
        let map = self.ebpf.map_mut("seen").ok_or(LoadError::NoMap("seen"))?;
        let mut seen: Array<_, Words> = Array::try_from(map).map_err(|_| LoadError::NoMap("seen"))?;
        seen.set(row, Words(words), 0).map_err(|_| LoadError::NoMap("seen"))
    }

    /// Points an executable in a cgroup at a row; 0 = none.
    ///
    /// # Errors
    ///
    /// When the map is full.
    pub fn point(&mut self, key: RowKey, row: u32) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("rows").ok_or(LoadError::NoMap("rows"))?;
        let mut rows: HashMap<_, RowKey, u32> = HashMap::try_from(map).map_err(|_| LoadError::NoMap("rows"))?;
        if row == 0 {
            let _ = rows.remove(&key);
            return Ok(());
        }
        rows.insert(key, row, 0).map_err(|_| LoadError::NoMap("rows"))
    }

    /// Says that a cgroup belongs to a ready workload, or no longer does.
    ///
    /// # Errors
    ///
    /// When the map is full.
    pub fn mark_ready(&mut self, cgroup: u64, ready: bool) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("ready").ok_or(LoadError::NoMap("ready"))?;
        let mut cgroups: HashMap<_, u64, u32> = HashMap::try_from(map).map_err(|_| LoadError::NoMap("ready"))?;
        if ready {
            return cgroups.insert(cgroup, 1, 0).map_err(|_| LoadError::NoMap("ready"));
        }
        let _ = cgroups.remove(&cgroup);
        Ok(())
    }

    /// Says that a destination is normal for a row.
    ///
    /// # Errors
    ///
    /// When the map is full.
    pub fn know_destination(&mut self, key: DestinationKey) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("destinations").ok_or(LoadError::NoMap("destinations"))?;
        let mut known: HashMap<_, DestinationKey, u8> =
            HashMap::try_from(map).map_err(|_| LoadError::NoMap("destinations"))?;
        known.insert(key, 1, 0).map_err(|_| LoadError::NoMap("destinations"))
    }

    /// Marks a process as one that is never denied, if it is still the same process.
    ///
    /// # Errors
    ///
    /// When the map is not there.
    pub fn protect(&mut self, cookie: u64) -> Result<bool, LoadError> {
        let map = self.ebpf.map_mut("lineage").ok_or(LoadError::NoMap("lineage"))?;
        let mut entries: HashMap<_, u32, Lineage> = HashMap::try_from(map).map_err(|_| LoadError::NoMap("lineage"))?;
        let tgid = collector_common::header::tgid_of(cookie);
        let Ok(mut lineage) = entries.get(&tgid, 0) else { return Ok(false) };
        if lineage.cookie != cookie {
            return Ok(false);
        }
        lineage.flags |= LINEAGE_PROTECTED;
        Ok(entries.insert(tgid, lineage, 0).is_ok())
    }

    /// Makes open windows look their row up again: call it after rows were filled and pointed at.
    ///
    /// # Errors
    ///
    /// When the map is not there.
    pub fn announce_rows(&mut self) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("control").ok_or(LoadError::NoMap("control"))?;
        let mut control: Array<_, Control> = Array::try_from(map).map_err(|_| LoadError::NoMap("control"))?;
        let mut value = control.get(&0, 0).map_err(|_| LoadError::NoMap("control"))?;
        value.row_generation = value.row_generation.wrapping_add(1).max(1);
        control.set(0, value, 0).map_err(|_| LoadError::NoMap("control"))
    }

    /// Enters the lineage of a process that is older than the programs; the kernel's own entry is never replaced.
    ///
    /// # Errors
    ///
    /// When the map is not there.
    pub fn take_in(&mut self, tgid: u32, lineage: &Lineage) -> Result<bool, LoadError> {
        const NOEXIST: u64 = 1;
        let map = self.ebpf.map_mut("lineage").ok_or(LoadError::NoMap("lineage"))?;
        let mut entries: HashMap<_, u32, Lineage> = HashMap::try_from(map).map_err(|_| LoadError::NoMap("lineage"))?;
        Ok(entries.insert(tgid, lineage, NOEXIST).is_ok())
    }
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Words([u64; (SEEN_BITS / 64) as usize]);

// SAFETY: an array of integers.
unsafe impl aya::Pod for Words {}

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
