//! Lasting changes that are made to recorded events.
//!
//! What is changed is what a host does most on its training days, so that every host has it and nobody chose it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use collector_common::flow::Direction;
use collector_common::process::EXEC_RENEWED;
use model::{Body, Event};

use crate::evaluate::HostDays;
use crate::labels::Split;

/// Where a provider has moved to: an address for documentation (RFC 5737) that nobody in the corpus uses.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77));
/// How many times the bytes a workload moves.
const TIMES: u64 = 10;
/// What a new program or directory is called.
const NEW: &str = ".new";

/// A lasting change.
pub(super) struct Change {
    /// What.
    pub(super) name: &'static str,
    /// Whose.
    pub(super) workload: Arc<str>,
    /// Where and how, in words.
    pub(super) what: String,
    how: How,
}

enum How {
    /// So many times the bytes.
    Bytes(u64),
    /// A destination has moved.
    Address(IpAddr),
    /// A program is another one under another name.
    Program(Arc<str>),
    /// The programs are other ones under the same names.
    InPlace,
    /// A directory has moved.
    Directory(Arc<str>),
}

impl Change {
    /// An event as it would have been so many days after the change.
    pub(super) fn applied(&self, mut event: Event, day: usize) -> Event {
        let is_own = *event.process.workload == *self.workload;
        match (&self.how, &mut event.body) {
            (How::Bytes(times), Body::Flow(flow)) if is_own => {
                flow.tx_bytes = flow.tx_bytes.saturating_mul(*times);
                flow.rx_bytes = flow.rx_bytes.saturating_mul(*times);
            }
            (How::Bytes(times), Body::Window(window)) if is_own => {
                window.read_bytes = window.read_bytes.saturating_mul(*times);
                window.write_bytes = window.write_bytes.saturating_mul(*times);
            }
            // Whoever else of the host reaches it finds it at its new place, too.
            (How::Address(from), Body::Flow(flow)) if flow.remote.ip() == *from => flow.remote.set_ip(ELSEWHERE),
            (How::InPlace, Body::Exec(exec)) if is_own && day == 0 => exec.bits |= EXEC_RENEWED,
            (How::Directory(from), Body::File(file)) if is_own && file.directory == *from => {
                file.directory = format!("{from}{NEW}").into();
            }
            (How::Program(from), body) if is_own => {
                if let Body::Exec(exec) = body
                    && exec.parent_exe == *from
                {
                    exec.parent_exe = format!("{from}{NEW}").into();
                }
                if event.process.exe == *from {
                    Arc::make_mut(&mut event.process).exe = format!("{from}{NEW}").into();
                }
            }
            _ => (),
        }
        event
    }
}

/// What a host does, and how often.
#[derive(Default)]
struct Habits {
    flows: BTreeMap<Arc<str>, u64>,
    execs: BTreeMap<Arc<str>, u64>,
    destinations: BTreeMap<(Arc<str>, IpAddr), u64>,
    programs: BTreeMap<(Arc<str>, Arc<str>), u64>,
    directories: BTreeMap<(Arc<str>, Arc<str>), u64>,
}

impl Habits {
    fn take(&mut self, event: &Event) {
        let workload = || event.process.workload.clone();
        match &event.body {
            Body::Flow(flow) => {
                *self.flows.entry(workload()).or_default() += 1;
                let to = flow.remote.ip();
                if flow.direction == Direction::Out as u8 && !to.is_loopback() {
                    *self.destinations.entry((workload(), to)).or_default() += 1;
                }
            }
            Body::Exec(_) => {
                *self.execs.entry(workload()).or_default() += 1;
                *self.programs.entry((workload(), event.process.exe.clone())).or_default() += 1;
            }
            Body::File(file) => {
                *self.directories.entry((workload(), file.directory.clone())).or_default() += 1;
            }
            Body::Fork(_) | Body::Exit(_) | Body::Window(_) | Body::Deny(_) => (),
        }
    }
}

fn most<K: Clone>(counts: &BTreeMap<K, u64>) -> Option<K> {
    counts.iter().max_by_key(|(_, count)| **count).map(|(key, _)| key.clone())
}

/// The changes that a host can have.
pub(super) fn changes(days: &HostDays) -> anyhow::Result<Vec<Change>> {
    let mut habits = Habits::default();
    for (_, day) in days.iter().filter(|(_, day)| day.cycle.split == Split::Train) {
        day.events().try_for_each(|event| event.map(|event| habits.take(&event)))?;
    }
    let mut all = Vec::new();
    let mut add = |name, workload: Arc<str>, of: String, how| {
        let what = format!("{workload}{of}");
        all.push(Change { name, workload, what, how });
    };
    if let Some(workload) = most(&habits.flows) {
        add("ten times the bytes", workload, String::new(), How::Bytes(TIMES));
    }
    if let Some((workload, from)) = most(&habits.destinations) {
        add("a destination has moved", workload, format!(", {from}"), How::Address(from));
    }
    if let Some((workload, from)) = most(&habits.directories) {
        add("a directory has moved", workload, format!(", {from}"), How::Directory(from));
    }
    if let Some((workload, from)) = most(&habits.programs) {
        add("a program has another name", workload, format!(", {from}"), How::Program(from));
    }
    if let Some(workload) = most(&habits.execs) {
        add("all programs upgraded in place", workload, String::new(), How::InPlace);
    }
    Ok(all)
}
