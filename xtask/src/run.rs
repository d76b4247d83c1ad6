//! Sets up, builds and runs the agent.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::Args;

use crate::setup::{Purpose, setup};
use crate::{bpf, cargo, must, setup as setup_mod, told};

/// What to run.
#[derive(Args)]
pub struct Options {
    /// Arguments of `stockade`.
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Runs `stockade` and does not come back.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    setup(&setup_mod::Options { purpose: Purpose::Run, yes: false })?;
    bpf::build(root)?;
    // The development profile builds in a third of the time, and neither a demo nor a first look needs more.
    must(cargo(root).args(["build", "--package", "collector", "--bin", "stockade"]))?;
    let binary = target(root)?.join("debug/stockade");
    let is_root = told(Command::new("id").arg("-u")).as_deref() == Some("0");
    let has_sudo = told(Command::new("sh").args(["-c", "command -v sudo"])).is_some();
    let mut command = if is_root {
        Command::new(&binary)
    } else if !has_sudo {
        // The demo then plays its recording; whatever else needs root says so itself.
        println!("run      not root, and there is no sudo: {} as it is", binary.display());
        Command::new(&binary)
    } else {
        println!("run      root is needed from here: sudo {}", binary.display());
        let mut sudo = Command::new("sudo");
        sudo.arg(&binary);
        sudo
    };
    Err(command.args(&options.args).exec()).with_context(|| format!("cannot run {}", binary.display()))
}

/// The target folder in use.
pub fn target(root: &Path) -> anyhow::Result<PathBuf> {
    let metadata =
        told(cargo(root).args(["metadata", "--format-version", "1", "--no-deps"])).context("cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    Ok(metadata["target_directory"].as_str().context("no target directory")?.into())
}
