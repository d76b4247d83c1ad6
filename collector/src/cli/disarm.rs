//! `stockade disarm`

use super::{Common, Exit};
use crate::api::client::Client;
use crate::api::protocol::Request;
use crate::enforce::disarm_pinned;
use crate::loader::Pins;

pub fn run(common: &Common) -> anyhow::Result<Exit> {
    let config = common.config()?;
    if let Ok(mut client) = Client::connect(&config.agent.socket) {
        let removed: usize = client.ask(Request::Disarm)?;
        println!("disarmed by the running agent: {removed} entries removed; it goes on watching");
        return Ok(Exit::Fine);
    }
    // No agent: what it pinned is all there is.
    let pins = Pins::at(&config.kernel.bpffs);
    if pins.names().is_empty() {
        println!("no agent runs and nothing is pinned: nothing is denied");
        return Ok(Exit::Fine);
    }
    let disarmed = disarm_pinned(&config.kernel.bpffs);
    // Whatever the maps said, without links nothing is asked.
    let (links, maps) = pins.remove_all()?;
    let entries = disarmed.map_or(0, |disarmed| disarmed.total());
    println!("disarmed without an agent: {entries} entries removed, {links} programs detached, {maps} maps released");
    Ok(Exit::Fine)
}
