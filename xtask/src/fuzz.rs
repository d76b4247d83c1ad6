//! `cargo xtask fuzz`: every parser of outside bytes under libFuzzer. Needs a nightly compiler and cargo-fuzz.

use std::path::Path;
use std::process::Command;

use anyhow::bail;
use clap::Args;

use crate::{must, told};

/// What to fuzz, and for how long.
#[derive(Args)]
pub struct Options {
    /// One target; all without.
    target: Option<String>,
    /// Seconds a target.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// Runs the fuzzer.
pub fn fuzz(root: &Path, options: &Options) -> anyhow::Result<()> {
    let folder = root.join("collector");
    if told(Command::new("cargo").args(["+nightly", "--version"]).env_remove("RUSTC")).is_none() {
        bail!(
            "there is no nightly compiler: `rustup toolchain install nightly`; the ordinary tests feed the same targets without one"
        );
    }
    if told(Command::new("cargo").args(["fuzz", "--version"])).is_none() {
        println!("fuzz     cargo install cargo-fuzz");
        must(Command::new("cargo").args(["install", "cargo-fuzz", "--locked"]).env_remove("CARGO_TARGET_DIR"))?;
    }
    let list = told(nightly(&folder).args(["fuzz", "list"])).unwrap_or_default();
    let targets: Vec<&str> =
        list.lines().filter(|name| options.target.as_deref().is_none_or(|wanted| wanted == *name)).collect();
    if targets.is_empty() {
        bail!("no fuzz target is called that; there are: {}", list.replace('\n', ", "));
    }
    for target in targets {
        println!("fuzz     {target}: {} s", options.seconds);
        let limit = format!("-max_total_time={}", options.seconds);
        must(nightly(&folder).args(["fuzz", "run", target, "--", &limit, "-rss_limit_mb=2048"]))?;
    }
    Ok(())
}

/// The cargo of the nightly toolchain; what the running one told us about itself would lead it astray.
fn nightly(folder: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.arg("+nightly").current_dir(folder).env_remove("RUSTC").env_remove("CARGO").env_remove("CARGO_TARGET_DIR");
    command.env_remove("RUSTUP_TOOLCHAIN");
    command
}
