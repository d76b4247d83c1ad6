//! The binary `stockade-trainer`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use stockade_trainer::cli::{Cli, run};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stockade-trainer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
