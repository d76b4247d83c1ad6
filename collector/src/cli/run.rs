//! `stockade run`

use std::io::IsTerminal;

use super::{Common, Exit};

pub fn run(common: &Common) -> anyhow::Result<Exit> {
    let config = common.config()?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("STOCKADE_LOG").unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let ledger = crate::agent::run(config)?;
    print!("{ledger}");
    println!();
    Ok(if ledger.closes() { Exit::Fine } else { Exit::Attention })
}
