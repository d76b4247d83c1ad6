//! The file record: a directory that an executable uses for the first time, or many files at once.

use crate::{ExeId, Header, plain};

/// Why a file record was written.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// This executable was not seen to use this directory in this mode before (bulk ring; ctrl for a sensitive class).
    First = 1,
    /// A process touched so many different files within [`RATE_INTERVAL_NS`] that the count reached a power of four.
    Rate = 2,
}

/// What was done with a file.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Opened for reading.
    Read = 0,
    /// Opened for writing, created or truncated.
    Write = 1,
    /// Started.
    Exec = 2,
    /// Unlinked, or renamed away.
    Delete = 3,
}

/// What a name says about a file, whatever directory it lies in. The names are in `sensitive_names`, written by user space.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensitive {
    /// Nothing.
    No = 0,
    /// Password hashes, tokens: `shadow`, `.git-credentials`, …
    Credentials = 1,
    /// Private keys and who may log in: `id_ed25519`, `authorized_keys`, …
    Keys = 2,
    /// What runs later: `crontab`, …
    Schedule = 3,
    /// What the dynamic linker loads into every program: `ld.so.preload`.
    Preload = 4,
    /// Sockets of container runtimes and service managers.
    Runtime = 5,
    /// `/proc/PID/mem`.
    Memory = 6,
}

/// Bytes of [`File::path`].
pub const PATH: usize = 232;
/// Bytes of [`File::name`], and of a key of `sensitive_names`.
pub const NAME: usize = 32;
/// Directories above a file that are followed.
pub const DEPTH: u32 = 20;
/// Time within which [`File::touched`] counts.
pub const RATE_INTERVAL_NS: u64 = 10_000_000_000;
/// The first count of touched files that is told; then every fourfold.
pub const RATE_FIRST: u32 = 16;
/// Index into [`File::touched`]: files opened for writing.
pub const TOUCH_WRITTEN: usize = 0;
/// Index into [`File::touched`]: files renamed.
pub const TOUCH_RENAMED: usize = 1;
/// Index into [`File::touched`]: files unlinked.
pub const TOUCH_DELETED: usize = 2;
/// [`File::flags`]: the path has more directories, or longer names, than fit.
pub const FILE_PATH_CUT: u8 = 1;

/// A first use of a directory, or a rate.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Common header.
    pub header: Header,
    /// The executable that did it.
    pub exe: ExeId,
    /// The directory that holds the file.
    pub directory: ExeId,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// Thread id.
    pub tid: u32,
    /// A [`Why`].
    pub why: u8,
    /// A [`Mode`].
    pub mode: u8,
    /// A [`Sensitive`].
    pub sensitive: u8,
    /// `FILE_*`.
    pub flags: u8,
    /// Different files written, renamed and deleted by this process in the present interval, approximately (a bloom filter
    /// of 512 bits: never too many, above 200 too few).
    pub touched: [u32; 3],
    /// Bytes of `path` in use.
    pub path_len: u16,
    /// Bytes of `name` in use.
    pub name_len: u16,
    /// Directories of the opened file from the innermost outwards, each followed by a zero byte, up to the root of its mount
    /// namespace; untrusted bytes.
    pub path: [u8; PATH],
    /// Last component, cut; untrusted bytes.
    pub name: [u8; NAME],
}
plain!(File, 360);

impl Default for File {
    fn default() -> Self {
        Self {
            header: Header::default(),
            exe: ExeId::default(),
            directory: ExeId::default(),
            cgroup: 0,
            tid: 0,
            why: 0,
            mode: 0,
            sensitive: 0,
            flags: 0,
            touched: [0; 3],
            path_len: 0,
            name_len: 0,
            path: [0; PATH],
            name: [0; NAME],
        }
    }
}

/// Key of `files_seen`: what was told before.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeenKey {
    /// The executable.
    pub exe: ExeId,
    /// Inode of the directory.
    pub ino: u64,
    /// Device of the directory.
    pub dev: u32,
    /// [`Mode`] and, above bit 8, [`Sensitive`].
    pub how: u32,
}
plain!(SeenKey, 32);

/// Value of `file_rates`, by cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Boot clock at the beginning of the interval.
    pub since_ns: u64,
    /// Count that is told next.
    pub next: u32,
    /// As in [`File::touched`].
    pub touched: [u32; 3],
    /// Inodes seen in this interval.
    pub bloom: [u64; 8],
}
plain!(Rate, 88);
