//! A lazy scan: which columns and which rows of a journal are wanted; nothing is read before a batch is asked for.
//!
//! The projection goes down to the column chunks: what is not named is not touched. The predicate goes down to the row
//! groups: one whose statistics say that no row of it can be wanted is passed over; of the others the unwanted rows are
//! dropped batch by batch. At most [`BATCH`] rows are in memory at once. Why this is not polars' own lazy scan:
//! docs/decisions/0011.

use std::ops::Range;

use polars_core::prelude::{BooleanChunked, DataFrame, PolarsResult};

use super::{BATCH, Journal, JournalError};

/// What is wanted of a journal.
#[derive(Debug)]
pub struct Scan<'a> {
    journal: &'a Journal,
    columns: Option<Vec<String>>,
    during: Option<Range<u64>>,
    workload: Option<String>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(journal: &'a Journal) -> Self {
        Self { journal, columns: None, during: None, workload: None }
    }

    /// Only these columns, and those that a condition below asks for.
    pub fn columns(mut self, names: &[&str]) -> Self {
        self.columns = Some(names.iter().map(|name| (*name).to_owned()).collect());
        self
    }

    /// Only rows of this event time, in nanoseconds since 1970; its end is not in it.
    pub fn during(mut self, unix_ns: Range<u64>) -> Self {
        self.during = Some(unix_ns);
        self
    }

    /// Only rows of this workload.
    pub fn of_workload(mut self, name: &str) -> Self {
        self.workload = Some(name.to_owned());
        self
    }

    /// Rows that have to be looked at: those of the row groups that no statistic rules out.
    pub fn rows_to_read(&self) -> usize {
        self.groups().map(|rows| rows.len()).sum()
    }

    /// What is wanted, batch by batch and in order; batches without a wanted row are left out.
    pub fn batches(mut self) -> impl Iterator<Item = Result<DataFrame, JournalError>> + 'a {
        let asked = [self.during.as_ref().map(|_| "unix_ns"), self.workload.as_ref().map(|_| "workload")];
        if let Some(columns) = &mut self.columns {
            columns.extend(asked.into_iter().flatten().map(str::to_owned));
            columns.sort();
            columns.dedup();
        }
        let ranges: Vec<Range<usize>> = self.groups().flat_map(batches_of).collect();
        let read = move |rows| {
            let frame = self.journal.read(self.columns.clone(), rows)?;
            self.filtered(frame).map_err(|source| self.journal.damaged(source))
        };
        ranges.into_iter().map(read).filter(|frame| frame.as_ref().map_or(true, |frame| frame.height() > 0))
    }

    fn groups(&self) -> impl Iterator<Item = Range<usize>> {
        let groups = self.journal.metadata.row_groups.iter().enumerate();
        let mut end = 0;
        groups.filter_map(move |(number, group)| {
            let begin = end;
            end += group.num_rows();
            self.may_hold(number).then_some(begin..end)
        })
    }

    fn may_hold(&self, group: usize) -> bool {
        let Some(wanted) = &self.during else { return true };
        // Where the writer left no statistics, everything may be.
        let Some((least, most)) = self.journal.statistics(group, "unix_ns") else { return true };
        least < wanted.end && most >= wanted.start
    }

    fn filtered(&self, frame: DataFrame) -> PolarsResult<DataFrame> {
        let mut frame = frame;
        if let Some(during) = &self.during {
            let moments = frame.column("unix_ns")?.u64()?;
            let wanted: BooleanChunked = moments.iter().map(|at| at.is_some_and(|at| during.contains(&at))).collect();
            frame = frame.filter(&wanted)?;
        }
        if let Some(workload) = &self.workload {
            let names = frame.column("workload")?.str()?;
            let wanted: BooleanChunked = names.iter().map(|name| name == Some(workload)).collect();
            frame = frame.filter(&wanted)?;
        }
        Ok(frame)
    }
}

/// Cuts rows into batches.
pub(super) fn batches_of(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = rows.end;
    rows.step_by(BATCH).map(move |from| from..end.min(from + BATCH))
}
