//! The `stockade` binary.

use std::process::ExitCode;

use clap::Parser;
use collector::cli::printable::{chain, printable};
use collector::cli::{Cli, Exit};
use collector::config::ConfigError;

fn main() -> ExitCode {
    collector::loader::canary::act_if_asked();
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

/// What was tried, and the chain of causes; names in it may be anybody's.
fn fail(error: &anyhow::Error) -> ExitCode {
    let text = format!("stockade: {}", chain(error));
    // Only a fault in a configuration, which is the caller's own text, has lines.
    let own = error.downcast_ref::<ConfigError>().is_some();
    let lines = if own { text.lines().collect() } else { vec![text.as_str()] };
    for line in lines {
        eprintln!("{}", printable(line));
    }
    Exit::of(error).into()
}
