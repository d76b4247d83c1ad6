//! The journal's row: one event, flat, so that every column is a plain Parquet type that any tool can read.
//!
//! The agent writes it (`stockade replay FILE --journal DIR`), the trainer and notebooks read it. A row holds all columns of
//! all kinds of event; what a kind does not have is null. Going to a row and back changes nothing (there is a property
//! test). Columns are declared once, below: writer and reader both walk [`COLUMNS`].

mod event;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::Time;

/// Version of the columns. A reader refuses another one: a journal is not guessed.
pub const VERSION: u32 = 1;
/// Key of the file metadata that holds [`VERSION`].
pub const VERSION_KEY: &str = "stockade.journal.version";
/// Key of the file metadata that holds a [`Meta`] as JSON.
pub const META_KEY: &str = "stockade.journal.meta";

/// What a journal says about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Host that was recorded.
    pub host: String,
    /// Its kernel.
    pub kernel: String,
    /// Version of the agent that recorded.
    pub agent: String,
    /// Baselines that were frozen or thawed while it was recorded, in order.
    pub modes: Vec<ModeChange>,
}

/// A workload left learning, or went back to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChange {
    /// Rows before it.
    pub row: u64,
    /// When.
    pub at: Time,
    /// Workload.
    pub workload: Arc<str>,
    /// It is judged from here on.
    pub ready: bool,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// 8 bits, unsigned.
    U8,
    /// 16 bits, unsigned.
    U16,
    /// 32 bits, unsigned.
    U32,
    /// 64 bits, unsigned.
    U64,
    /// Yes or no.
    Flag,
    /// UTF-8.
    Text,
    /// A list of numbers of 8, 16, 32 or 64 bits.
    Numbers(u8),
    /// A list of texts.
    Texts,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub of: Type,
    /// Whether a row may lack it.
    pub nullable: bool,
}

/// The value of a column in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Absent.
    Null,
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Text.
    Text(Arc<str>),
    /// Numbers.
    Numbers(Vec<u64>),
    /// Texts.
    Texts(Vec<String>),
}

/// Why a row is not an event.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RowError {
    /// A column that the kind of event needs is null.
    #[error("the row is of kind {kind:?}, but its column {column} is null")]
    Missing {
        /// Kind of event.
        kind: Arc<str>,
        /// Column.
        column: &'static str,
    },
    /// A kind of event that this version does not know.
    #[error("{0:?} is no kind of event: fork, exec, exit, window, flow, deny or file are")]
    Kind(Arc<str>),
    /// A value that cannot be.
    #[error("column {column} holds {value}, which is not {wanted}")]
    Value {
        /// Column.
        column: &'static str,
        /// What it holds.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

/// A field of a row: its column type, and the way to a cell and back.
trait Field: Sized {
    const TYPE: Type;
    const NULLABLE: bool = false;
    fn to_cell(&self) -> Cell;
    fn of_cell(cell: Cell) -> Option<Self>;
}

macro_rules! number_fields {
    ($($number:ty => $type:ident),*) => {$(
        impl Field for $number {
            const TYPE: Type = Type::$type;
            fn to_cell(&self) -> Cell { Cell::Number(u64::from(*self)) }
            fn of_cell(cell: Cell) -> Option<Self> {
                let Cell::Number(number) = cell else { return None };
                Self::try_from(number).ok()
            }
        }
        impl Field for Vec<$number> {
            const TYPE: Type = Type::Numbers(<$number>::BITS as u8);
            fn to_cell(&self) -> Cell { Cell::Numbers(self.iter().copied().map(u64::from).collect()) }
            fn of_cell(cell: Cell) -> Option<Self> {
                let Cell::Numbers(numbers) = cell else { return None };
                numbers.into_iter().map(|number| <$number>::try_from(number).ok()).collect()
            }
        }
    )*};
}
number_fields!(u8 => U8, u16 => U16, u32 => U32, u64 => U64);

impl Field for bool {
    const TYPE: Type = Type::Flag;
    fn to_cell(&self) -> Cell {
        Cell::Flag(*self)
    }
    fn of_cell(cell: Cell) -> Option<Self> {
        if let Cell::Flag(flag) = cell { Some(flag) } else { None }
    }
}

impl Field for Arc<str> {
    const TYPE: Type = Type::Text;
    fn to_cell(&self) -> Cell {
        Cell::Text(self.clone())
    }
    fn of_cell(cell: Cell) -> Option<Self> {
        if let Cell::Text(text) = cell { Some(text) } else { None }
    }
}

impl Field for Vec<String> {
    const TYPE: Type = Type::Texts;
    fn to_cell(&self) -> Cell {
        Cell::Texts(self.clone())
    }
    fn of_cell(cell: Cell) -> Option<Self> {
        if let Cell::Texts(texts) = cell { Some(texts) } else { None }
    }
}

impl<T: Field> Field for Option<T> {
    const TYPE: Type = T::TYPE;
    const NULLABLE: bool = true;
    fn to_cell(&self) -> Cell {
        self.as_ref().map_or(Cell::Null, T::to_cell)
    }
    fn of_cell(cell: Cell) -> Option<Self> {
        if cell == Cell::Null { Some(None) } else { T::of_cell(cell).map(Some) }
    }
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// One event, flat. Fields are the columns, in their order.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Row {
            $($(#[$doc])* pub $name: $type,)*
        }

        /// Every column, in the order of the file.
        pub const COLUMNS: &[Column] = &[
            $(Column { name: stringify!($name), of: <$type as Field>::TYPE, nullable: <$type as Field>::NULLABLE },)*
        ];

        impl Row {
            /// Gives the cell of each column, in the order of [`COLUMNS`].
            pub fn each_cell(&self, mut take: impl FnMut(usize, Cell)) {
                let mut at = 0;
                $(take(at, Field::to_cell(&self.$name)); at += 1;)*
                debug_assert_eq!(at, COLUMNS.len());
            }

            /// A row from the cell of each column, asked for in the order of [`COLUMNS`].
            ///
            /// # Errors
            ///
            /// Names the first column whose cell has another type, or is null although it must not be.
            pub fn of_cells(mut give: impl FnMut(usize) -> Cell) -> Result<Self, RowError> {
                let mut at = 0;
                Ok(Self { $($name: {
                    let cell = give(at);
                    at += 1;
                    let null = cell == Cell::Null;
                    Field::of_cell(cell).ok_or_else(|| RowError::Value {
                        column: COLUMNS[at - 1].name,
                        value: if null { "null" } else { "another type" }.to_owned(),
                        wanted: "a value of its column's type",
                    })?
                },)* })
            }
        }
    };
}

columns! {
    /// When, in nanoseconds since 1970: event time.
    unix_ns: u64,
    /// When, on the boot clock.
    boot_ns: u64,
    /// `fork`, `exec`, `exit`, `window`, `flow`, `deny` or `file`.
    kind: Arc<str>,
    /// The process.
    cookie: u64,
    /// Its id.
    pid: u32,
    /// Its workload.
    workload: Arc<str>,
    /// Its executable.
    exe: Arc<str>,
    /// Its script.
    script: Option<Arc<str>>,
    /// Its command line.
    cmdline: Arc<str>,
    /// Its user.
    uid: u32,
    /// The user who logged in.
    loginuid: Option<u32>,
    /// Its cgroup.
    cgroup: u64,
    /// Its ancestors' cookies, the nearest first.
    ancestors: Vec<u64>,
    /// It is older than the agent.
    pre_existing: bool,
    /// fork: the new process.
    child: Option<u64>,
    /// fork: flags of clone(2).
    clone_flags: Option<u64>,
    /// exec: the creator.
    parent: Option<u64>,
    /// exec: what ran before.
    parent_exe: Option<Arc<str>>,
    /// exec: its script.
    parent_script: Option<Arc<str>>,
    /// exec: arguments.
    argv: Option<Vec<String>>,
    /// exec: length of all arguments.
    argv_full: Option<u32>,
    /// exec: `EXEC_*`.
    bits: Option<u32>,
    /// exec: effective user.
    euid: Option<u32>,
    /// exec: group.
    gid: Option<u32>,
    /// exec: network namespace.
    netns: Option<u32>,
    /// exit: status.
    code: Option<u32>,
    /// window: thread.
    tid: Option<u32>,
    /// window, flow, file: why it was written.
    why: Option<u8>,
    /// window: calls lost.
    missed: Option<u32>,
    /// window: boot clock at its first call.
    start_boot_ns: Option<u64>,
    /// window: failed calls.
    errors: Option<u16>,
    /// window: calls refused for lack of permission.
    permission_errors: Option<u16>,
    /// window: bytes read.
    read_bytes: Option<u64>,
    /// window: bytes written.
    write_bytes: Option<u64>,
    /// window: calls by class.
    class: Option<Vec<u8>>,
    /// window: trigrams that the kernel did not know.
    novel_trigrams: Option<Vec<u32>>,
    /// window: the calls.
    trace: Option<Vec<u16>>,
    /// flow: socket.
    socket: Option<u64>,
    /// flow: who made it.
    opener: Option<u64>,
    /// flow: direction.
    direction: Option<u8>,
    /// flow, deny: IPPROTO_*.
    protocol: Option<u8>,
    /// flow: TCP flags seen.
    tcp_flags: Option<u8>,
    /// flow: this host's end, `address:port`.
    local: Option<Arc<str>>,
    /// flow, deny: the other end, `address:port`.
    remote: Option<Arc<str>>,
    /// flow: bytes sent.
    tx_bytes: Option<u64>,
    /// flow: bytes received.
    rx_bytes: Option<u64>,
    /// flow: packets sent.
    tx_packets: Option<u64>,
    /// flow: packets received.
    rx_packets: Option<u64>,
    /// flow: boot clock at its beginning.
    first_ns: Option<u64>,
    /// flow: boot clock at its last packet.
    last_ns: Option<u64>,
    /// flow: gaps between packets.
    gaps: Option<Vec<u8>>,
    /// flow: lengths of packets.
    sizes: Option<Vec<u8>>,
    /// deny: decision.
    decision: Option<u64>,
    /// deny: counter slot.
    slot: Option<u32>,
    /// deny: hook.
    hook: Option<u8>,
    /// deny: action.
    action: Option<u8>,
    /// deny: what matched.
    matched: Option<u8>,
    /// deny: hits not reported one by one.
    suppressed: Option<u32>,
    /// deny, file: last component of the path.
    file: Option<Arc<str>>,
    /// deny: it only would have been.
    shadow: Option<bool>,
    /// deny: it opened the breaker.
    breaker: Option<bool>,
    /// file: how it was used.
    mode: Option<u8>,
    /// file: what its name says.
    sensitive: Option<u8>,
    /// file: its directory.
    directory: Option<Arc<str>>,
    /// file: files written, renamed and deleted.
    touched: Option<Vec<u32>>,
}
