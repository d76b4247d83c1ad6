//! The `stockade` binary.

use std::process::ExitCode;

use clap::Parser;
use collector::cli::{Cli, Exit};

fn main() -> ExitCode {
    // The demo's programs are this binary under other names.
    if let Some(done) = collector::demo::shop::run_if_named(std::env::args_os().next().as_deref()) {
        return match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        };
    }
    match Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(error) => fail(&error),
    }
}

/// One line: what was tried, and the chain of causes.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("stockade: {error:#}");
    Exit::of(error).into()
}
