//! What a user of the trainer would notice. One binary, since each is linked with all of polars.

mod cli;
mod conformance;
mod demo;
mod evaluation;
mod golden;
mod ingest;
mod journals;
mod kafka;
mod memory;
mod outside;
mod robustness;
mod summaries;
mod support;
