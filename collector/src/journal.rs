//! The Parquet journal: one row an event, for the trainer and for notebooks. What a row holds is [`model::journal`]'s.
//!
//! A journal is written beside its name and renamed when it is whole: nobody ever sees half of one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::{ArrowPrimitiveType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, BooleanArray, ListArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use model::event::{Event, Time};
use model::journal::{COLUMNS, Cell, Column, META_KEY, Meta, ModeChange, Row, Type, VERSION, VERSION_KEY};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use thiserror::Error;

/// Rows that are turned into columns at once.
const BATCH: usize = 2_048;
/// Rows of a row group: what a reader has to hold.
const GROUP: usize = 32_768;
/// Mode changes that are kept.
const MAX_MODES: usize = 4_096;

/// Why a journal cannot be written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file.
    #[error("cannot write the journal {path}: {source}; free space or choose another folder")]
    File {
        /// Where.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Parquet.
    #[error("cannot write the journal: {0}")]
    Parquet(#[from] ParquetError),
    /// Arrow.
    #[error("cannot write the journal: {0}")]
    Arrow(#[from] ArrowError),
    /// Metadata.
    #[error("cannot write what the journal says about itself: {0}")]
    Meta(#[from] serde_json::Error),
}

/// A journal being written.
pub struct JournalWriter {
    path: PathBuf,
    unfinished: Unfinished,
    writer: ArrowWriter<File>,
    schema: Arc<Schema>,
    columns: Vec<Vec<Cell>>,
    rows: u64,
    meta: Meta,
}

/// A file that is removed unless it was given its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl JournalWriter {
    /// Begins a journal at a path, whose folder is made if it is missing.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn create(path: &Path, meta: Meta) -> Result<Self, JournalError> {
        let failed = |source| JournalError::File { path: path.to_path_buf(), source };
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".part");
        let unfinished = Unfinished(path.with_file_name(name));
        let file = File::create(&unfinished.0).map_err(failed)?;
        let schema = Arc::new(schema());
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP))
            .set_created_by(format!("stockade {}", env!("CARGO_PKG_VERSION")))
            .build();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))?;
        let columns = COLUMNS.iter().map(|_| Vec::with_capacity(BATCH)).collect();
        Ok(Self { path: path.to_path_buf(), unfinished, writer, schema, columns, rows: 0, meta })
    }

    /// Adds an event.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn append(&mut self, event: &Event) -> Result<(), JournalError> {
        Row::from(event).each_cell(|at, cell| self.columns[at].push(cell));
        self.rows += 1;
        if self.columns[0].len() >= BATCH { self.write_batch() } else { Ok(()) }
    }

    /// Notes that a workload left learning, or went back to it, after the events so far.
    pub fn note_mode(&mut self, workload: &Arc<str>, ready: bool, at: Time) {
        if self.meta.modes.len() < MAX_MODES {
            self.meta.modes.push(ModeChange { row: self.rows, at, workload: workload.clone(), ready });
        }
    }

    /// Writes what is left and gives the file its name. How many rows it holds.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; nothing is left of it then.
    pub fn finish(mut self) -> Result<u64, JournalError> {
        if !self.columns[0].is_empty() {
            self.write_batch()?;
        }
        self.writer.append_key_value_metadata(KeyValue::new(VERSION_KEY.to_owned(), VERSION.to_string()));
        let meta = serde_json::to_string(&self.meta)?;
        self.writer.append_key_value_metadata(KeyValue::new(META_KEY.to_owned(), meta));
        self.writer.close()?;
        let failed = |source| JournalError::File { path: self.path.clone(), source };
        std::fs::rename(&self.unfinished.0, &self.path).map_err(failed)?;
        Ok(self.rows)
    }

    fn write_batch(&mut self) -> Result<(), JournalError> {
        let arrays = COLUMNS.iter().zip(&mut self.columns).map(|(column, cells)| array(column, std::mem::take(cells)));
        let batch = RecordBatch::try_new(self.schema.clone(), arrays.collect())?;
        Ok(self.writer.write(&batch)?)
    }
}

fn schema() -> Schema {
    Schema::new(
        COLUMNS.iter().map(|column| Field::new(column.name, data_type(column.of), column.nullable)).collect::<Vec<_>>(),
    )
}

fn data_type(of: Type) -> DataType {
    match of {
        Type::U8 => DataType::UInt8,
        Type::U16 => DataType::UInt16,
        Type::U32 => DataType::UInt32,
        Type::U64 => DataType::UInt64,
        Type::Flag => DataType::Boolean,
        Type::Text => DataType::Utf8,
        Type::Numbers(8) => list_of(DataType::UInt8),
        Type::Numbers(16) => list_of(DataType::UInt16),
        Type::Numbers(32) => list_of(DataType::UInt32),
        Type::Numbers(_) => list_of(DataType::UInt64),
        Type::Texts => list_of(DataType::Utf8),
    }
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn array(column: &Column, cells: Vec<Cell>) -> ArrayRef {
    match column.of {
        Type::U8 => numbers::<UInt8Type>(cells, |number| number as u8),
        Type::U16 => numbers::<UInt16Type>(cells, |number| number as u16),
        Type::U32 => numbers::<UInt32Type>(cells, |number| number as u32),
        Type::U64 => numbers::<UInt64Type>(cells, |number| number),
        Type::Numbers(8) => lists::<UInt8Type>(cells, |number| number as u8),
        Type::Numbers(16) => lists::<UInt16Type>(cells, |number| number as u16),
        Type::Numbers(32) => lists::<UInt32Type>(cells, |number| number as u32),
        Type::Numbers(_) => lists::<UInt64Type>(cells, |number| number),
        Type::Flag => Arc::new(cells.iter().map(flag).collect::<BooleanArray>()),
        Type::Text => Arc::new(cells.iter().map(text).collect::<StringArray>()),
        Type::Texts => texts(&cells),
    }
}

fn numbers<T: ArrowPrimitiveType>(cells: Vec<Cell>, narrow: fn(u64) -> T::Native) -> ArrayRef
where
    PrimitiveArray<T>: From<Vec<Option<T::Native>>>,
{
    let of = |cell: &Cell| if let Cell::Number(number) = cell { Some(narrow(*number)) } else { None };
    Arc::new(PrimitiveArray::<T>::from(cells.iter().map(of).collect::<Vec<_>>()))
}

fn lists<T: ArrowPrimitiveType>(cells: Vec<Cell>, narrow: fn(u64) -> T::Native) -> ArrayRef {
    let of = |cell| {
        let Cell::Numbers(numbers) = cell else { return None };
        Some(numbers.into_iter().map(move |number| Some(narrow(number))).collect::<Vec<_>>())
    };
    Arc::new(ListArray::from_iter_primitive::<T, _, _>(cells.into_iter().map(of)))
}

fn texts(cells: &[Cell]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for cell in cells {
        if let Cell::Texts(texts) = cell {
            texts.iter().for_each(|text| lists.values().append_value(text));
        }
        lists.append(matches!(cell, Cell::Texts(_)));
    }
    Arc::new(lists.finish())
}

fn flag(cell: &Cell) -> Option<bool> {
    if let Cell::Flag(flag) = cell { Some(*flag) } else { None }
}

fn text(cell: &Cell) -> Option<&str> {
    if let Cell::Text(text) = cell { Some(text) } else { None }
}
