//! `shop-start CGROUP PROGRAM [ARGS…]`: joins a cgroup and becomes the program, as a service manager does.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use super::Layout;

pub fn run(_: &Layout) -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let cgroup = PathBuf::from(args.next().context("which cgroup?")?);
    let program = args.next().context("which program?")?;
    let procs = cgroup.join("cgroup.procs");
    std::fs::write(&procs, "0").with_context(|| format!("cannot join {}", procs.display()))?;
    Err(Command::new(program).args(args).exec().into())
}
