//! The Stockade model: what happened in, how surprising it is out.
//!
//! Pure maths: no IO, no clock, no randomness but seeded, no `unsafe`. Data flows from top to bottom of this list:
//! [`event`] → …
#![forbid(unsafe_code)]

pub mod event;
