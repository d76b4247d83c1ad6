//! A journal from rows that were checked: written beside its name, renamed when it is whole.

use std::fs::File;
use std::path::{Path, PathBuf};

use model::journal::{COLUMNS, Cell, META_KEY, Meta, Row, Type, VERSION, VERSION_KEY};
use polars_core::prelude::{
    Column, DataFrame, IntoSeries, ListBuilderTrait, ListPrimitiveChunkedBuilder, ListStringChunkedBuilder, NamedFrom,
    PolarsError, PolarsNumericType, PolarsResult, Series, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use polars_io::parquet::write::BatchedWriter;
use polars_io::prelude::{KeyValueMetadata, ParquetCompression, ParquetWriter};

use super::{JournalError, columns};

/// Rows that are written at once: a row group.
pub const GROUP: usize = 16_384;

/// A journal being written, a row group in memory at a time.
pub struct Writer {
    path: PathBuf,
    part: Part,
    writer: BatchedWriter<File>,
    cells: Vec<Vec<Cell>>,
    rows: u64,
}

/// A file that is removed unless it was given its name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Writer {
    /// Begins a journal, whose folder is made if it is missing.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn create(path: &Path, meta: &Meta) -> Result<Self, JournalError> {
        let failed = |source| JournalError::File { path: path.to_path_buf(), source };
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        let part = Part(path.with_extension("parquet.part"));
        let file = File::create(&part.0).map_err(failed)?;
        let meta = serde_json::to_string(meta).map_err(|error| failed(error.into()))?;
        let said = vec![(VERSION_KEY.to_owned(), VERSION.to_string()), (META_KEY.to_owned(), meta)];
        let writer = frame(empty()).and_then(|nothing| {
            ParquetWriter::new(file)
                .with_compression(ParquetCompression::Zstd(None))
                .with_key_value_metadata(Some(KeyValueMetadata::from_static(said)))
                .batched(nothing.schema())
        });
        let refused = |source| JournalError::Parquet { path: path.to_path_buf(), source };
        Ok(Self { path: path.to_path_buf(), part, writer: writer.map_err(refused)?, cells: empty(), rows: 0 })
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn append(&mut self, row: &Row) -> Result<(), JournalError> {
        row.each_cell(|at, cell| self.cells[at].push(cell));
        self.rows += 1;
        if self.cells[0].len() >= GROUP { self.write_batch() } else { Ok(()) }
    }

    /// Writes what is left and gives the file its name. How many rows it holds.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; nothing is left of it then.
    pub fn finish(mut self) -> Result<u64, JournalError> {
        if !self.cells[0].is_empty() {
            self.write_batch()?;
        }
        self.writer.finish().map_err(|source| self.refused(source))?;
        let failed = |source| JournalError::File { path: self.path.clone(), source };
        std::fs::rename(&self.part.0, &self.path).map_err(failed)?;
        Ok(self.rows)
    }

    fn write_batch(&mut self) -> Result<(), JournalError> {
        let cells = std::mem::replace(&mut self.cells, empty());
        frame(cells).and_then(|frame| self.writer.write_batch(&frame)).map_err(|source| self.refused(source))
    }

    fn refused(&self, source: PolarsError) -> JournalError {
        JournalError::Parquet { path: self.path.clone(), source }
    }
}

fn empty() -> Vec<Vec<Cell>> {
    COLUMNS.iter().map(|_| Vec::new()).collect()
}

fn frame(cells: Vec<Vec<Cell>>) -> PolarsResult<DataFrame> {
    let rows = cells.first().map_or(0, Vec::len);
    let columns = COLUMNS.iter().zip(cells);
    let columns = columns.map(|(column, cells)| Ok(Column::from(series(column.name, column.of, &cells)?)));
    DataFrame::new(rows, columns.collect::<PolarsResult<Vec<_>>>()?)
}

fn series(name: &'static str, of: Type, cells: &[Cell]) -> PolarsResult<Series> {
    let number = |cell: &Cell| if let Cell::Number(number) = cell { Some(*number) } else { None };
    let text = |cell: &Cell| if let Cell::Text(text) = cell { Some(text.to_string()) } else { None };
    let flag = |cell: &Cell| if let Cell::Flag(flag) = cell { Some(*flag) } else { None };
    Ok(match of {
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
            let wide = Series::new(name.into(), cells.iter().map(number).collect::<Vec<_>>());
            wide.strict_cast(&columns::data_type(of))?
        }
        Type::Text => Series::new(name.into(), cells.iter().map(text).collect::<Vec<_>>()),
        Type::Flag => Series::new(name.into(), cells.iter().map(flag).collect::<Vec<_>>()),
        Type::Numbers(8) => numbers::<UInt8Type>(name, Type::U8, cells, |number| number as u8),
        Type::Numbers(16) => numbers::<UInt16Type>(name, Type::U16, cells, |number| number as u16),
        Type::Numbers(32) => numbers::<UInt32Type>(name, Type::U32, cells, |number| number as u32),
        Type::Numbers(_) => numbers::<UInt64Type>(name, Type::U64, cells, |number| number),
        Type::Texts => texts(name, cells),
    })
}

fn numbers<T: PolarsNumericType>(name: &str, of: Type, cells: &[Cell], narrow: fn(u64) -> T::Native) -> Series {
    let inner = columns::data_type(of);
    let mut lists = ListPrimitiveChunkedBuilder::<T>::new(name.into(), cells.len(), cells.len() * 8, inner);
    for cell in cells {
        match cell {
            Cell::Numbers(numbers) => lists.append_values_iter(numbers.iter().map(|number| narrow(*number))),
            _ => lists.append_null(),
        }
    }
    lists.finish().into_series()
}

fn texts(name: &str, cells: &[Cell]) -> Series {
    let mut lists = ListStringChunkedBuilder::new(name.into(), cells.len(), cells.len());
    for cell in cells {
        match cell {
            Cell::Texts(texts) => lists.append_values_iter(texts.iter().map(String::as_str)),
            _ => lists.append_null(),
        }
    }
    lists.finish().into_series()
}
