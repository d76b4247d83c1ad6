//! Bytes of a record → typed record. Total: bad bytes are counted, never a panic.
