//! Wires the stages together: threads, bounded queues, start and ordered shutdown.

pub mod inbox;
pub mod rows;
