//! Between polars' columns and the journal's cells.

use std::sync::Arc;

use model::journal::{COLUMNS, Cell, Column, Row, RowError, Type};
use polars_core::prelude::{DataFrame, DataType, ListChunked, PolarsResult, Series};

/// The type that polars gives a column.
pub fn data_type(of: Type) -> DataType {
    let list = |item| DataType::List(Box::new(item));
    match of {
        Type::U8 => DataType::UInt8,
        Type::U16 => DataType::UInt16,
        Type::U32 => DataType::UInt32,
        Type::U64 => DataType::UInt64,
        Type::Flag => DataType::Boolean,
        Type::Text => DataType::String,
        Type::Numbers(8) => list(DataType::UInt8),
        Type::Numbers(16) => list(DataType::UInt16),
        Type::Numbers(32) => list(DataType::UInt32),
        Type::Numbers(_) => list(DataType::UInt64),
        Type::Texts => list(DataType::String),
    }
}

/// Whether a frame has the journal's columns; if not, the first difference.
pub fn check(frame: &DataFrame) -> Result<(), String> {
    for column in COLUMNS {
        let found = frame.column(column.name).map_err(|_| format!("it has no column {}", column.name))?;
        let wanted = data_type(column.of);
        if *found.dtype() != wanted {
            return Err(format!("its column {} is of type {}, not {wanted}", column.name, found.dtype()));
        }
    }
    if frame.width() != COLUMNS.len() {
        return Err(format!("it has {} columns, not {}", frame.width(), COLUMNS.len()));
    }
    Ok(())
}

/// The rows of a frame; a value that its column must not hold makes an error of its row only.
pub fn rows(frame: &DataFrame) -> Result<Vec<Result<Row, RowError>>, String> {
    let mut columns = Vec::with_capacity(COLUMNS.len());
    for column in COLUMNS {
        let series = frame.column(column.name).map_err(|error| error.to_string())?.as_materialized_series().rechunk();
        columns.push(cells(column, &series).map_err(|error| format!("column {}: {error}", column.name))?);
    }
    let take = |row: usize, columns: &mut [Vec<Cell>]| {
        Row::of_cells(|at| std::mem::replace(&mut columns[at][row], Cell::Null))
    };
    Ok((0..frame.height()).map(|row| take(row, &mut columns)).collect())
}

fn cells(column: &Column, series: &Series) -> PolarsResult<Vec<Cell>> {
    let number = |number: Option<u64>| number.map_or(Cell::Null, Cell::Number);
    Ok(match column.of {
        Type::U8 => series.u8()?.iter().map(|value| number(value.map(u64::from))).collect(),
        Type::U16 => series.u16()?.iter().map(|value| number(value.map(u64::from))).collect(),
        Type::U32 => series.u32()?.iter().map(|value| number(value.map(u64::from))).collect(),
        Type::U64 => series.u64()?.iter().map(number).collect(),
        Type::Flag => series.bool()?.iter().map(|value| value.map_or(Cell::Null, Cell::Flag)).collect(),
        Type::Text => texts(series)?,
        Type::Numbers(_) => lists(series.list()?, numbers, Cell::Numbers)?,
        Type::Texts => lists(series.list()?, strings, Cell::Texts)?,
    })
}

/// Equal names next to each other share their memory.
fn texts(series: &Series) -> PolarsResult<Vec<Cell>> {
    let mut last: Arc<str> = Arc::from("");
    let mut cell = |text: Option<&str>| {
        let Some(text) = text else { return Cell::Null };
        if *last != *text {
            last = text.into();
        }
        Cell::Text(last.clone())
    };
    Ok(series.str()?.iter().map(&mut cell).collect())
}

/// Cuts the flat values of a list column where its rows begin.
fn lists<T: Clone>(
    lists: &ListChunked,
    flat: impl Fn(&Series) -> PolarsResult<Vec<T>>,
    cell: impl Fn(Vec<T>) -> Cell,
) -> PolarsResult<Vec<Cell>> {
    let present = lists.is_not_null();
    let inner = flat(&lists.get_inner())?;
    let Some(chunk) = lists.downcast_iter().next() else { return Ok(Vec::new()) };
    let starts: Vec<usize> = chunk.offsets().iter().map(|at| *at as usize).collect();
    let of = |(ends, present): (&[usize], Option<bool>)| match (ends, present) {
        ([from, to], Some(true)) => inner.get(*from..*to).map_or(Cell::Null, |part| cell(part.to_vec())),
        _ => Cell::Null,
    };
    Ok(starts.windows(2).zip(present.iter()).map(of).collect())
}

fn numbers(inner: &Series) -> PolarsResult<Vec<u64>> {
    let cast = inner.cast(&DataType::UInt64)?;
    Ok(cast.u64()?.iter().map(Option::unwrap_or_default).collect())
}

fn strings(inner: &Series) -> PolarsResult<Vec<String>> {
    Ok(inner.str()?.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
}
