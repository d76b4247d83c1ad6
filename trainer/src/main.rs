//! The binary `stockade-trainer`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use stockade_trainer::cli::{Cli, run};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stockade-trainer: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes. Many errors name their cause in the middle of a sentence: it is not said again at the end.
fn chain(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}
