//! What people said about findings.

use super::{Store, StoreError, bodies, signed, to_json};
use crate::decision::Author;
use crate::policy::Entry;
use crate::policy::marks::{Mark, MarkChange, Word};

impl Store {
    /// Keeps a mark as it is now; when it was made or taken back, with its line in the audit.
    ///
    /// # Errors
    ///
    /// When the database cannot be written; neither was kept then.
    pub fn save_mark(&mut self, change: MarkChange, mark: &Mark) -> Result<(), StoreError> {
        let body = to_json("marks", mark)?;
        let entry = entry(change, mark);
        self.together("keep a mark", |store| {
            store
                .connection
                .prepare_cached("INSERT OR REPLACE INTO marks (number, body) VALUES (?1, ?2)")
                .and_then(|mut insert| insert.execute((signed(mark.number), &body)))
                .map_err(StoreError::statement("keep a mark"))?;
            entry.map_or(Ok(()), |entry| store.audit(&entry))
        })
    }

    /// All marks.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn marks(&self) -> Result<Vec<Mark>, StoreError> {
        bodies(&self.connection, "marks", "SELECT body FROM marks ORDER BY number", [])
    }
}

fn entry(change: MarkChange, mark: &Mark) -> Option<Entry> {
    let (at, author, what, text): (_, &Author, _, _) = match (change, &mark.undone) {
        (MarkChange::Made, _) => {
            let word = match mark.word {
                Word::Benign { .. } => "marked benign",
                Word::Malicious { .. } => "marked malicious",
            };
            (mark.since, &mark.author, word, &mark.reason)
        }
        (MarkChange::Undone, Some((author, at, reason))) => (*at, author, "mark undone", reason),
        _ => return None,
    };
    let subject = format!("{} {}", mark.short(), mark.finding);
    Some(Entry { at, author: author.clone(), what: what.to_owned(), subject, text: text.clone() })
}
