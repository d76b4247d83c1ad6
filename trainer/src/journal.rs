//! The Parquet journal, scanned in batches and checked: version, columns, types; and written, for what was checked.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use model::event::Event;
use model::journal::{META_KEY, Meta, Row, RowError, VERSION, VERSION_KEY};
use polars_core::prelude::{DataFrame, PolarsError};
use polars_io::parquet::metadata::FileMetadataRef;
use polars_io::prelude::{ParquetReader, SerReader};
use thiserror::Error;

mod columns;
mod scan;
mod write;

pub use scan::Scan;
pub use write::{GROUP, Writer};

/// Rows that are read at once: what training needs of memory is a few times a batch.
pub const BATCH: usize = 4_096;

/// Why a journal cannot be read.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file cannot be opened, read or written.
    #[error("cannot use the journal {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// It is empty, cut off or something else than Parquet.
    #[error("{path} is not a whole Parquet file: {source}; write it anew with `stockade replay FILE --journal DIR`")]
    Parquet {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: PolarsError,
    },
    /// Parquet, but not ours, or of another version.
    #[error(
        "{path} is not a journal of version {VERSION}: {what}; write it anew with `stockade replay FILE --journal DIR`"
    )]
    Schema {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is not one event in it.
    #[error("the journal {path} holds no events: there is nothing to learn from or to judge")]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// A row that is no event.
    #[error("row {row} of {path} is no event: {source}; `stockade-trainer ingest` sets such rows aside")]
    Row {
        /// Which.
        path: PathBuf,
        /// Its number, from 0 on.
        row: u64,
        /// Why.
        source: RowError,
    },
}

/// A journal that was opened and whose columns are as they should be.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
    meta: Meta,
    /// Parsed once: a batch would otherwise read the footer of every row group again.
    metadata: FileMetadataRef,
}

impl Journal {
    /// Opens a journal and checks what it says about itself.
    ///
    /// # Errors
    ///
    /// When it is not a whole journal of this version, or holds nothing.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let mut reader = reader(path)?;
        let whole = |source| JournalError::Parquet { path: path.to_path_buf(), source };
        let wrong = |what| JournalError::Schema { path: path.to_path_buf(), what };
        let metadata = reader.get_metadata().map_err(whole)?.clone();
        let said = |key: &str| {
            let pairs = metadata.key_value_metadata().as_deref().unwrap_or_default();
            pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone())
        };
        match said(VERSION_KEY) {
            Some(version) if version == VERSION.to_string() => (),
            Some(version) => return Err(wrong(format!("it says version {version}"))),
            None => return Err(wrong(format!("its metadata lacks {VERSION_KEY}"))),
        }
        let meta = said(META_KEY).unwrap_or_else(|| "{}".to_owned());
        let meta = serde_json::from_str(&meta).map_err(|error| wrong(format!("{META_KEY} is damaged: {error}")))?;
        // A batch of nothing has the file's types, as polars names them.
        let head = reader.with_slice(Some((0, 0))).finish().map_err(whole)?;
        columns::check(&head).map_err(wrong)?;
        if metadata.num_rows == 0 {
            return Err(JournalError::Empty { path: path.to_path_buf() });
        }
        Ok(Self { path: path.to_path_buf(), meta, metadata })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says about itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// How many events it holds.
    pub fn rows(&self) -> usize {
        self.metadata.num_rows
    }

    /// A scan of it, for those who want columns.
    pub fn scan(&self) -> Scan<'_> {
        Scan::new(self)
    }

    /// The least and the most of a column of times or counters (type U64): from the statistics of its row groups; a group
    /// that has none is read.
    ///
    /// # Errors
    ///
    /// When the file is damaged there, or the column is none of these.
    pub fn extent(&self, name: &str) -> Result<(u64, u64), JournalError> {
        let (mut least, mut most) = (u64::MAX, 0);
        let mut take = |low: u64, high: u64| (least, most) = (least.min(low), most.max(high));
        let mut begin = 0;
        for (number, group) in self.metadata.row_groups.iter().enumerate() {
            let rows = begin..begin + group.num_rows();
            begin = rows.end;
            if let Some((low, high)) = self.statistics(number, name) {
                take(low, high);
                continue;
            }
            for rows in scan::batches_of(rows) {
                let frame = self.read(Some(vec![name.to_owned()]), rows)?;
                let column =
                    frame.column(name).and_then(|column| column.u64()).map_err(|source| self.damaged(source))?;
                column.iter().flatten().for_each(|value| take(value, value));
            }
        }
        Ok((least, most))
    }

    /// What the writer noted as the least and the most of a column in a row group.
    fn statistics(&self, group: usize, name: &str) -> Option<(u64, u64)> {
        let mut chunks = self.metadata.row_groups.get(group)?.columns_under_root_iter(name)?;
        let noted = chunks.next()?.statistics(&self.metadata.footer_buf)?.ok()?;
        let noted = noted.as_int64()?;
        // Parquet keeps an unsigned number by its bits.
        Some((noted.min_value? as u64, noted.max_value? as u64))
    }

    fn read(&self, names: Option<Vec<String>>, rows: Range<usize>) -> Result<DataFrame, JournalError> {
        let mut reader = reader(&self.path)?.with_columns(names).with_slice(Some((rows.start, rows.len())));
        reader.set_metadata(self.metadata.clone());
        reader.set_rechunk(true).finish().map_err(|source| self.damaged(source))
    }

    fn damaged(&self, source: PolarsError) -> JournalError {
        JournalError::Parquet { path: self.path.clone(), source }
    }

    /// Its rows, a batch in memory at a time. A row that cannot be read comes as its error, and the rest follows.
    pub fn rows_checked(&self) -> impl Iterator<Item = Result<Result<Row, RowError>, JournalError>> + '_ {
        (0..self.rows()).step_by(BATCH).flat_map(move |from| each(self.batch(from)))
    }

    fn batch(&self, from: usize) -> Result<Vec<Result<Row, RowError>>, JournalError> {
        let frame = self.read(None, from..self.rows().min(from + BATCH))?;
        columns::rows(&frame).map_err(|what| JournalError::Schema { path: self.path.clone(), what })
    }

    /// As [`Journal::rows_checked`], for those who keep nothing else of it.
    pub fn into_rows_checked(self) -> impl Iterator<Item = Result<Result<Row, RowError>, JournalError>> {
        (0..self.rows()).step_by(BATCH).flat_map(move |from| each(self.batch(from)))
    }

    /// Its events in order; the first row that is none ends it with an error.
    pub fn events(&self) -> impl Iterator<Item = Result<Event, JournalError>> + '_ {
        self.rows_checked().enumerate().map(move |(at, row)| {
            row?.and_then(Event::try_from).map_err(|source| JournalError::Row {
                path: self.path.clone(),
                row: at as u64,
                source,
            })
        })
    }
}

type Checked = Result<Result<Row, RowError>, JournalError>;

/// The rows of a batch, or the one error in its place.
fn each(batch: Result<Vec<Result<Row, RowError>>, JournalError>) -> Box<dyn Iterator<Item = Checked>> {
    match batch {
        Ok(rows) => Box::new(rows.into_iter().map(Ok)),
        Err(error) => Box::new(std::iter::once(Err(error))),
    }
}

fn reader(path: &Path) -> Result<ParquetReader<File>, JournalError> {
    let failed = |source| JournalError::File { path: path.to_path_buf(), source };
    Ok(ParquetReader::new(File::open(path).map_err(failed)?))
}
