//! Writes kernel records to a file, with everything else that a replay needs to come to the same conclusions.
//!
//! A recording is a header and frames. All numbers are little-endian.
//!
//! ```text
//! header  magic [8] "STKDREC\n" · format u16 · ABI u8 · 0 u8 · length u32 · crc32c u32 · postcard of [`Info`]
//! frame   length u32 · kind u8 · crc32c u32 over length, kind and payload · payload
//! ```
//!
//! A frame is a record as the kernel wrote it, a [`Note`], or the end. A file without its end frame was cut off: what is
//! there is good, and [`crate::replay::Recording`] says that more is missing.

use std::io::{self, Write};

use collector_common::ABI;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::enrich::clock::Clock;
use crate::enrich::runtime::ContainerInfo;
use crate::policy::mode::Mode;

/// First bytes of every recording.
pub const MAGIC: [u8; 8] = *b"STKDREC\n";
/// Version of the file format; notes and [`Info`] belong to it, record layouts have their own ([`ABI`]).
pub const FORMAT: u16 = 1;
/// Longest payload of a frame or the header in bytes.
pub const LONGEST: usize = 64 << 10;

pub(crate) const FRAME_RECORD: u8 = 1;
pub(crate) const FRAME_NOTE: u8 = 2;
pub(crate) const FRAME_END: u8 = 3;

/// What a recording says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// Boot clock to wall clock.
    pub clock: Clock,
    /// Name of the host.
    pub hostname: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Version of the agent that recorded.
    pub agent: String,
}

impl Info {
    /// A recording made here by this version.
    pub fn of_this_host(clock: Clock) -> Self {
        let kernel = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        Self {
            clock,
            hostname: kernel("hostname").trim().to_owned(),
            kernel: kernel("osrelease").trim().to_owned(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Something that is not a kernel record but that conclusions depend on. Valid for the records after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Note {
    /// Event time is computed by this clock from here on (a demo changes the factor).
    Clock(Clock),
    /// Path of a cgroup; `None`: it could not be found out.
    Cgroup {
        /// cgroup v2 id.
        id: u64,
        /// Path below the mount.
        path: Option<String>,
    },
    /// Path of a process in systemd's v1 hierarchy.
    SystemdCgroup {
        /// Process id.
        pid: u32,
        /// Path.
        path: Option<String>,
    },
    /// A process that was looked up in `/proc`.
    Process {
        /// Process id.
        pid: u32,
        /// Bytes of the [`collector_common::process::Exec`] made from it.
        exec: Option<Vec<u8>>,
    },
    /// The path behind `/proc/PID/exe`.
    ExePath {
        /// Process id.
        pid: u32,
        /// Path.
        path: Option<String>,
    },
    /// What a container runtime knows.
    Container {
        /// Container id.
        id: String,
        /// Name, image, pod.
        info: Option<ContainerInfo>,
    },
    /// A workload changed its mode.
    Mode {
        /// Workload.
        workload: String,
        /// New mode.
        mode: Mode,
    },
    /// Seed of the model.
    Seed(u64),
}

/// Why a recording cannot be written.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file refused the bytes.
    #[error("cannot write the recording: {0}; free space or choose another file")]
    Write(#[from] io::Error),
    /// A frame is longer than a reader accepts.
    #[error("{what} of {len} bytes is longer than the {LONGEST} that a recording's frame can hold")]
    TooLong {
        /// `record`, `note` or `header`.
        what: &'static str,
        /// Its length.
        len: usize,
    },
    /// The note could not be put into bytes.
    #[error("cannot encode a {what}: {source}")]
    Encode {
        /// `note` or `header`.
        what: &'static str,
        /// Cause.
        source: postcard::Error,
    },
}

/// Writes one recording. Give it a buffered writer.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    out: W,
    records: u64,
    notes: u64,
    bytes: u64,
}

impl<W: Write> Recorder<W> {
    /// Begins a recording: writes the header.
    ///
    /// # Errors
    ///
    /// When the file does not take it.
    pub fn new(mut out: W, info: &Info) -> Result<Self, RecordError> {
        let info = encode("header", info)?;
        let len = length("header", info.len())?;
        out.write_all(&MAGIC)?;
        out.write_all(&FORMAT.to_le_bytes())?;
        out.write_all(&[ABI, 0])?;
        out.write_all(&len.to_le_bytes())?;
        out.write_all(&crc32c::crc32c(&info).to_le_bytes())?;
        out.write_all(&info)?;
        Ok(Self { out, records: 0, notes: 0, bytes: 20 + info.len() as u64 })
    }

    /// Appends a kernel record, good or bad: the replay decodes it again.
    ///
    /// # Errors
    ///
    /// When the file does not take it, or it is longer than [`LONGEST`].
    pub fn record(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        self.frame("record", FRAME_RECORD, bytes)?;
        self.records += 1;
        Ok(())
    }

    /// Appends a note; it holds for the records after it.
    ///
    /// # Errors
    ///
    /// As [`Recorder::record`].
    pub fn note(&mut self, note: &Note) -> Result<(), RecordError> {
        self.frame("note", FRAME_NOTE, &encode("note", note)?)?;
        self.notes += 1;
        Ok(())
    }

    /// Hands what is buffered to the file system.
    ///
    /// # Errors
    ///
    /// When the file does not take it.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        Ok(self.out.flush()?)
    }

    /// Ends the recording properly and gives the writer back.
    ///
    /// # Errors
    ///
    /// When the file does not take the end frame; everything before it is readable all the same.
    pub fn finish(mut self) -> Result<W, RecordError> {
        let counts = [self.records.to_le_bytes(), self.notes.to_le_bytes()].concat();
        self.frame("end", FRAME_END, &counts)?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Kernel records written so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes written so far, for a cap on the file's size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn frame(&mut self, what: &'static str, kind: u8, payload: &[u8]) -> Result<(), RecordError> {
        let len = length(what, payload.len())?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&[kind])?;
        self.out.write_all(&checksum(len, kind, payload).to_le_bytes())?;
        self.out.write_all(payload)?;
        self.bytes += 9 + payload.len() as u64;
        Ok(())
    }
}

/// The checksum covers the length too, so that a damaged one is not taken for a long frame.
pub(crate) fn checksum(len: u32, kind: u8, payload: &[u8]) -> u32 {
    let start = crc32c::crc32c(&len.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(start, &[kind]), payload)
}

fn encode(what: &'static str, value: &impl Serialize) -> Result<Vec<u8>, RecordError> {
    postcard::to_stdvec(value).map_err(|source| RecordError::Encode { what, source })
}

fn length(what: &'static str, len: usize) -> Result<u32, RecordError> {
    if len > LONGEST {
        return Err(RecordError::TooLong { what, len });
    }
    Ok(len as u32)
}
