//! Bytes of a record → typed record. Total: bad bytes are counted, never a panic.
//!
//! A record that passes holds only values that later stages may index and match with: lengths inside their arrays, enums
//! inside their range. Everything behind this module relies on that.

use collector_common::process::{self, EXEC_PRE_EXISTING, TEXT};
use collector_common::stats::Program;
use collector_common::{ABI, Header, Kind, Plain, bytes_of, deny, file, flow, read, syscall};
use thiserror::Error;

/// A checked kernel record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A process was born.
    Fork(process::Fork),
    /// A process replaced its program, or one older than the agent was taken in.
    Exec(Box<process::Exec>),
    /// A process ended.
    Exit(process::Exit),
    /// One thread's syscalls.
    Window(Box<syscall::Window>),
    /// A socket's traffic with one peer.
    Flow(flow::Flow),
    /// Something was denied.
    Deny(Box<deny::Deny>),
    /// A directory was used for the first time, or many files at once.
    File(Box<file::File>),
}

impl Record {
    /// The header that every record starts with.
    pub fn header(&self) -> &Header {
        match self {
            Record::Fork(record) => &record.header,
            Record::Exec(record) => &record.header,
            Record::Exit(record) => &record.header,
            Record::Window(record) => &record.header,
            Record::Flow(record) => &record.header,
            Record::Deny(record) => &record.header,
            Record::File(record) => &record.header,
        }
    }

    /// Which kind of record it is.
    pub fn kind(&self) -> Kind {
        match self {
            Record::Fork(_) => Kind::Fork,
            Record::Exec(_) => Kind::Exec,
            Record::Exit(_) => Kind::Exit,
            Record::Window(_) => Kind::Window,
            Record::Flow(_) => Kind::Flow,
            Record::Deny(_) => Kind::Deny,
            Record::File(_) => Kind::File,
        }
    }

    /// cgroup v2 id that the record names; 0 when the kernel did not know it.
    pub fn cgroup(&self) -> u64 {
        match self {
            Record::Fork(record) => record.cgroup,
            Record::Exec(record) => record.cgroup,
            Record::Exit(record) => record.cgroup,
            Record::Window(record) => record.cgroup,
            Record::Flow(record) => record.cgroup,
            Record::Deny(record) => record.cgroup,
            Record::File(record) => record.cgroup,
        }
    }

    /// The record as the kernel wrote it.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Record::Fork(record) => bytes_of(record),
            Record::Exec(record) => bytes_of(&**record),
            Record::Exit(record) => bytes_of(record),
            Record::Window(record) => bytes_of(&**record),
            Record::Flow(record) => bytes_of(record),
            Record::Deny(record) => bytes_of(&**record),
            Record::File(record) => bytes_of(&**record),
        }
    }

    /// Made by user space from `/proc`, so that no program's statistics count it.
    pub fn is_synthesised(&self) -> bool {
        matches!(self, Record::Exec(exec) if exec.bits & EXEC_PRE_EXISTING != 0)
    }
}

/// The calls of a window, oldest first.
///
/// A window that waited for a full ring went on as a ring of its last calls; then bits 8–15 of [`Header::flags`] say where
/// the oldest one stands.
pub fn trace(window: &syscall::Window) -> impl Iterator<Item = u16> {
    let (newer, older) = window.trace.split_at(oldest(window).min(syscall::WINDOW));
    older.iter().chain(newer).copied().take(usize::from(window.n))
}

fn oldest(window: &syscall::Window) -> usize {
    usize::from(window.header.flags >> 8)
}

/// The kind of record that a program writes; `None` for programs that write none.
pub fn kind_written_by(program: Program) -> Option<Kind> {
    match program {
        Program::Fork => Some(Kind::Fork),
        Program::Exec => Some(Kind::Exec),
        Program::Exit => Some(Kind::Exit),
        Program::Syscall | Program::Sweep => Some(Kind::Window),
        Program::FlowIngress
        | Program::FlowEgress
        | Program::FlowState
        | Program::FlowRelease
        | Program::FlowConnect => Some(Kind::Flow),
        Program::DenyConnect | Program::DenyEgress | Program::DenyLsm => Some(Kind::Deny),
        Program::File | Program::FileRemoved => Some(Kind::File),
        Program::Owner => None,
    }
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Error)]
pub enum Reject {
    /// Fewer bytes than a header has.
    #[error("{0} bytes are fewer than a record header has")]
    TooShort(usize),
    /// The first byte names no kind of record.
    #[error("no record is of kind {0}")]
    UnknownKind(u8),
    /// Written by a program of another layout version.
    #[error("the record has layout version {0}, this agent reads {ABI}: unload the older kernel programs")]
    WrongAbi(u8),
    /// The length in the header, the length of the slice and the length of the type are not all equal.
    #[error("a record of kind {kind} has {expected} bytes, {said} are announced and {got} were read")]
    WrongLength {
        /// Kind byte.
        kind: u8,
        /// Length of that kind.
        expected: usize,
        /// Length that the header says.
        said: u16,
        /// Length of the slice.
        got: usize,
    },
    /// A field holds what no program writes.
    #[error("field {0} is out of range")]
    BadField(&'static str),
}

impl Reject {
    /// A short stable name for counters and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Reject::TooShort(_) => "too_short",
            Reject::UnknownKind(_) => "unknown_kind",
            Reject::WrongAbi(_) => "wrong_abi",
            Reject::WrongLength { .. } => "wrong_length",
            Reject::BadField(_) => "bad_field",
        }
    }
}

/// The kind that a record's first byte announces, whether or not the rest is good.
pub fn announced_kind(bytes: &[u8]) -> Option<Kind> {
    match *bytes.first()? {
        1 => Some(Kind::Fork),
        2 => Some(Kind::Exec),
        3 => Some(Kind::Exit),
        4 => Some(Kind::Window),
        5 => Some(Kind::Flow),
        6 => Some(Kind::Deny),
        7 => Some(Kind::File),
        _ => None,
    }
}

/// Reads one record.
///
/// # Errors
///
/// Says what is wrong with the bytes; the caller counts it and goes on with the next record.
pub fn decode(bytes: &[u8]) -> Result<Record, Reject> {
    let header: Header = bytes.get(..size_of::<Header>()).and_then(read).ok_or(Reject::TooShort(bytes.len()))?;
    let kind = announced_kind(bytes).ok_or(Reject::UnknownKind(header.kind))?;
    if header.abi != ABI {
        return Err(Reject::WrongAbi(header.abi));
    }
    match kind {
        Kind::Fork => whole(bytes, &header).map(Record::Fork),
        Kind::Exec => exec(whole(bytes, &header)?),
        Kind::Exit => whole(bytes, &header).map(Record::Exit),
        Kind::Window => window(whole(bytes, &header)?),
        Kind::Flow => flow(whole(bytes, &header)?),
        Kind::Deny => deny(whole(bytes, &header)?),
        Kind::File => file(whole(bytes, &header)?),
    }
}

fn whole<T: Plain>(bytes: &[u8], header: &Header) -> Result<T, Reject> {
    let wrong_length =
        Reject::WrongLength { kind: header.kind, expected: size_of::<T>(), said: header.len, got: bytes.len() };
    if usize::from(header.len) != size_of::<T>() {
        return Err(wrong_length);
    }
    read(bytes).ok_or(wrong_length)
}

fn exec(record: process::Exec) -> Result<Record, Reject> {
    check(usize::from(record.file_len) <= TEXT, "exec.file_len")?;
    check(usize::from(record.argv_len) <= TEXT, "exec.argv_len")?;
    Ok(Record::Exec(Box::new(record)))
}

fn window(record: syscall::Window) -> Result<Record, Reject> {
    check((1..=syscall::WINDOW).contains(&usize::from(record.n)), "window.n")?;
    check((syscall::Why::Full as u8..=syscall::Why::Idle as u8).contains(&record.why), "window.why")?;
    check(record.arch <= 1, "window.arch")?;
    // Only a full trace can have wrapped.
    let starts = if usize::from(record.n) == syscall::WINDOW { syscall::WINDOW } else { 1 };
    check(oldest(&record) < starts, "window.start")?;
    Ok(Record::Window(Box::new(record)))
}

fn flow(record: flow::Flow) -> Result<Record, Reject> {
    check((flow::Why::Novel as u8..=flow::Why::Close as u8).contains(&record.why), "flow.why")?;
    check(record.direction <= flow::Direction::In as u8, "flow.direction")?;
    Ok(Record::Flow(record))
}

fn deny(record: deny::Deny) -> Result<Record, Reject> {
    check((deny::Hook::Connect4 as u8..=deny::Hook::Socket as u8).contains(&record.hook), "deny.hook")?;
    check(record.action <= deny::Action::Tamper as u8, "deny.action")?;
    check((deny::Match::Tree as u8..=deny::Match::Harden as u8).contains(&record.matched), "deny.matched")?;
    Ok(Record::Deny(Box::new(record)))
}

fn file(record: file::File) -> Result<Record, Reject> {
    check((file::Why::First as u8..=file::Why::Rate as u8).contains(&record.why), "file.why")?;
    check(record.mode <= file::Mode::Delete as u8, "file.mode")?;
    check(record.sensitive <= file::Sensitive::Memory as u8, "file.sensitive")?;
    check(usize::from(record.path_len) <= file::PATH, "file.path_len")?;
    check(usize::from(record.name_len) <= file::NAME, "file.name_len")?;
    Ok(Record::File(Box::new(record)))
}

/// The directory of a file record, from the root on; `…/` stands for what did not fit.
pub fn directory(record: &file::File) -> String {
    let bytes = &record.path[..usize::from(record.path_len).min(file::PATH)];
    let names: Vec<_> = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    let mut path = if record.flags & file::FILE_PATH_CUT != 0 { "…".to_owned() } else { String::new() };
    for name in names.iter().rev() {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(name));
    }
    if path.is_empty() { "/".to_owned() } else { path }
}

fn check(holds: bool, field: &'static str) -> Result<(), Reject> {
    if holds { Ok(()) } else { Err(Reject::BadField(field)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header<T>(kind: Kind) -> Header {
        Header {
            kind: kind as u8,
            abi: ABI,
            len: size_of::<T>() as u16,
            seq: 1,
            boot_ns: 7,
            cookie: 9,
            ..Header::default()
        }
    }

    fn good_records() -> Vec<Record> {
        vec![
            Record::Fork(process::Fork { header: header::<process::Fork>(Kind::Fork), child: 3, ..Default::default() }),
            Record::Exec(Box::new(process::Exec {
                header: header::<process::Exec>(Kind::Exec),
                file_len: TEXT as u16,
                ..Default::default()
            })),
            Record::Exit(process::Exit { header: header::<process::Exit>(Kind::Exit), ..Default::default() }),
            Record::Window(Box::new(syscall::Window {
                header: header::<syscall::Window>(Kind::Window),
                why: 5,
                n: 128,
                ..Default::default()
            })),
            Record::Flow(flow::Flow { header: header::<flow::Flow>(Kind::Flow), why: 3, ..Default::default() }),
            Record::Deny(Box::new(deny::Deny {
                header: header::<deny::Deny>(Kind::Deny),
                hook: 16,
                matched: 5,
                ..Default::default()
            })),
            Record::File(Box::new(file::File {
                header: header::<file::File>(Kind::File),
                why: 2,
                mode: 3,
                sensitive: 6,
                path_len: file::PATH as u16,
                ..Default::default()
            })),
        ]
    }

    #[test]
    fn what_was_written_is_read_back() {
        for record in good_records() {
            assert_eq!(decode(record.bytes()).as_ref(), Ok(&record));
        }
    }

    #[test]
    fn each_fault_has_its_own_name() {
        let records = good_records();
        let fork = records[0].bytes();
        assert_eq!(decode(&fork[..31]), Err(Reject::TooShort(31)));
        let with = |at: usize, byte: u8| {
            let mut bytes = fork.to_vec();
            bytes[at] = byte;
            decode(&bytes)
        };
        assert_eq!(with(0, 0), Err(Reject::UnknownKind(0)));
        assert_eq!(with(0, 8), Err(Reject::UnknownKind(8)));
        assert_eq!(with(1, ABI + 1), Err(Reject::WrongAbi(ABI + 1)));
        let wrong = Reject::WrongLength { kind: 1, expected: 88, said: 88, got: 87 };
        assert_eq!(decode(&fork[..87]), Err(wrong));
        assert_eq!(with(4, 87), Err(Reject::WrongLength { kind: 1, expected: 88, said: 87, got: 88 }));
    }

    #[test]
    fn values_that_no_program_writes_are_refused() {
        let window = |change: fn(&mut syscall::Window)| {
            let mut window =
                syscall::Window { header: header::<syscall::Window>(Kind::Window), why: 1, n: 1, ..Default::default() };
            change(&mut window);
            decode(bytes_of(&window))
        };
        assert!(window(|_| ()).is_ok());
        assert_eq!(window(|window| window.n = 0), Err(Reject::BadField("window.n")));
        assert_eq!(window(|window| window.n = 129), Err(Reject::BadField("window.n")));
        assert_eq!(window(|window| window.why = 7), Err(Reject::BadField("window.why")));
        let exec = process::Exec { header: header::<process::Exec>(Kind::Exec), argv_len: 257, ..Default::default() };
        assert_eq!(decode(bytes_of(&exec)), Err(Reject::BadField("exec.argv_len")));
        let deny = deny::Deny { header: header::<deny::Deny>(Kind::Deny), hook: 17, matched: 1, ..Default::default() };
        assert_eq!(decode(bytes_of(&deny)), Err(Reject::BadField("deny.hook")));
        let file = file::File { header: header::<file::File>(Kind::File), why: 1, path_len: 233, ..Default::default() };
        assert_eq!(decode(bytes_of(&file)), Err(Reject::BadField("file.path_len")));
    }

    #[test]
    fn a_directory_is_read_from_the_root_on() {
        let with = |text: &[u8], flags| {
            let mut record = file::File { path_len: text.len() as u16, flags, ..Default::default() };
            record.path[..text.len()].copy_from_slice(text);
            directory(&record)
        };
        assert_eq!(with(b"ssh\0etc\0", 0), "/etc/ssh");
        assert_eq!(with(b"", 0), "/");
        assert_eq!(with(b"deep\0down\0", file::FILE_PATH_CUT), "…/down/deep");
    }

    #[test]
    fn a_trace_that_wrapped_is_read_from_its_oldest_call() {
        let mut window =
            syscall::Window { header: header::<syscall::Window>(Kind::Window), why: 1, n: 128, ..Default::default() };
        window.trace = std::array::from_fn(|at| (at as u16 + 128 - 5) % 128);
        window.header.flags = syscall::WINDOW_TRIGGER | 5 << 8;
        assert!(decode(bytes_of(&window)).is_ok());
        assert!(trace(&window).eq(0..128));
        window.n = 127;
        assert_eq!(decode(bytes_of(&window)), Err(Reject::BadField("window.start")));
        window.header.flags = syscall::WINDOW_TRIGGER;
        assert!(trace(&window).eq(window.trace[..127].iter().copied()));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..800)) {
            if let Ok(record) = decode(&bytes) {
                prop_assert_eq!(record.bytes(), &bytes[..]);
            }
        }

        #[test]
        fn mutated_records_are_read_as_they_are_or_refused(
            which in 0usize..7,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = good_records()[which].bytes().to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(record) = decode(&bytes) {
                prop_assert_eq!(record.bytes(), &bytes[..]);
                if let Record::Window(window) = record {
                    prop_assert_eq!(trace(&window).count(), usize::from(window.n));
                }
            }
        }
    }
}
