//! Writes kernel records to a file.
