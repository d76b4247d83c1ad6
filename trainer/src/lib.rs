//! The batch half of Stockade: what is said about detection is measured here.
//!
//! [`journal`] and [`corpus`] read what the agent recorded → [`evaluate`] takes it through the same model, and through rivals
//! ([`detectors`]), and says what each finds, how soon, at how many false findings a day → [`report`] writes it down.
//! [`datasets`] reads the public sets that the literature knows. Feature extraction lives in the `model` crate, so that the
//! agent and this program run the same function.
#![forbid(unsafe_code)]

pub mod cli;
pub mod corpus;
pub mod datasets;
pub mod detectors;
pub mod evaluate;
pub mod export;
pub mod ingest;
pub mod journal;
pub mod kafka;
pub mod labels;
pub mod prior;
pub mod report;
pub mod rivals;
pub mod stats;
pub mod streaming;
pub mod summary;
