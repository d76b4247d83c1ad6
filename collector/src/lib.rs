//! The Stockade agent. The modules stand in the order in which data flows:
//!
//! [`loader`] puts the programs into the kernel → [`ring`] reads what they write → [`decode`] checks the bytes → [`enrich`]
//! adds process, executable and workload → [`score`] asks the model → [`policy`] makes findings and decisions →
//! [`enforce`] writes deny entries → [`store`] and [`sinks`] keep and tell. [`agent`] wires the stages; [`record`] and
//! [`replay`] cut the wire after the ring.

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
pub mod contain;
pub mod decision;
pub mod decode;
pub mod demo;
pub mod enforce;
pub mod enrich;
pub mod finding;
pub mod history;
pub mod journal;
pub mod ledger;
pub mod loader;
pub mod policy;
pub mod record;
pub mod replay;
pub mod ring;
pub mod score;
pub mod short;
pub mod sinks;
pub mod store;
