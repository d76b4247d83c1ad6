//! `stockade disarm`: waits for nobody. A running agent is asked first, for its books; if it does not answer, or there is
//! none, what is pinned in the kernel is cleared without it.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Context;

use super::{Common, Exit, table};
use crate::api::client::{Client, ClientError};
use crate::api::protocol::{ErrorCode, Request};
use crate::config::Config;
use crate::contain::freeze;
use crate::enforce::disarm_pinned;
use crate::loader::{Pins, mount_of_cgroup2};

/// How long a running agent may take.
const PATIENCE: Duration = Duration::from_secs(3);

pub fn run(common: &Common) -> anyhow::Result<Exit> {
    let config = common.config()?;
    let asked =
        Client::connect_for(&config.agent.socket, PATIENCE).and_then(|mut client| client.ask::<usize>(Request::Disarm));
    match asked {
        Ok(removed) => {
            table::say(&format!("disarmed by the running agent: {removed} entries removed; it goes on watching"))?;
            Ok(Exit::Fine)
        }
        Err(ClientError::NoAgent { .. }) => without_agent(&config),
        Err(error) if is_about_the_caller(&error) => Err(error.into()),
        Err(error) => past_the_agent(&config, &error),
    }
}

/// No agent: what it pinned is all there is.
fn without_agent(config: &Config) -> anyhow::Result<Exit> {
    let pins = Pins::at(&config.kernel.bpffs);
    // Whoever may not look must not be told that there is nothing.
    let is_empty = |pins: &Pins| std::fs::read_dir(pins.directory()).map(|mut names| names.next().is_none());
    match is_empty(&pins).or_else(|error| if pins.others().is_empty() { Err(error) } else { Ok(false) }) {
        Ok(false) => (),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let what = format!("cannot look at {}: nothing was removed", pins.directory().display());
            return Err(anyhow::Error::new(error).context(what));
        }
        _ => {
            let frozen = thawed();
            table::say(&format!("no agent runs and nothing is pinned: nothing is denied{frozen}"))?;
            return Ok(Exit::Fine);
        }
    }
    let disarmed = disarm_pinned(&config.kernel.bpffs);
    // Whatever the maps said, without links nothing is asked. Another version's pins deny as well as ours.
    let (mut links, mut maps) = (0, 0);
    for pins in std::iter::once(pins.clone()).chain(pins.others()) {
        let (gone_links, gone_maps) = pins.remove_all()?;
        links += gone_links;
        maps += gone_maps;
    }
    let entries = disarmed.map_or(0, |disarmed| disarmed.total());
    let frozen = thawed();
    table::say(&format!(
        "disarmed without an agent: {entries} entries removed, {links} programs detached, {maps} maps released{frozen}"
    ))?;
    Ok(Exit::Fine)
}

/// An agent is there and of no use: its entries are removed from the kernel. Its pins stay, it may still use them.
fn past_the_agent(config: &Config, why: &ClientError) -> anyhow::Result<Exit> {
    let disarmed = disarm_pinned(&config.kernel.bpffs)
        .with_context(|| format!("{why}; and what is pinned cannot be cleared without it"))?;
    let frozen = thawed();
    table::say(&format!(
        "disarmed past the agent: {} entries removed{frozen}. {why}. It may deny anew when it goes on: end it, then disarm again",
        disarmed.total()
    ))?;
    Ok(Exit::Attention)
}

/// Thaws what an agent froze: the marks are on the cgroups themselves.
fn thawed() -> String {
    match freeze::thaw_all_but(&mount_of_cgroup2().unwrap_or_default(), &[]) {
        0 => String::new(),
        count => format!(", {count} cgroups thawed"),
    }
}

fn is_about_the_caller(error: &ClientError) -> bool {
    match error {
        ClientError::NotPermitted { .. } => true,
        ClientError::Refused(refused) => refused.code != ErrorCode::Failed,
        _ => false,
    }
}
