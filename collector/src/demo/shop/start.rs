//! `shop-start CGROUP NETNS PROGRAM [ARGS…]`: joins a cgroup and a network namespace and becomes the program, as a service
//! manager does.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Layout;

pub fn run(_: &Layout) -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let cgroup = PathBuf::from(args.next().context("which cgroup?")?);
    let namespace = PathBuf::from(args.next().context("which network namespace?")?);
    let program = args.next().context("which program?")?;
    let procs = cgroup.join("cgroup.procs");
    std::fs::write(&procs, "0").with_context(|| format!("cannot join {}", procs.display()))?;
    let file = File::open(&namespace).with_context(|| format!("cannot open {}", namespace.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("cannot enter {}", namespace.display()))?;
    Err(Command::new(program).args(args).exec().into())
}
