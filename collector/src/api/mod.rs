//! The unix socket over which the command line talks to a running agent: one JSON object a line, mode 0660.

pub mod client;
pub mod protocol;
pub mod server;
