//! What the model tells about itself: baselines for people, for the fence and for the kernel's filter.

use std::net::IpAddr;
use std::sync::Arc;

use collector_common::token;
use serde::{Deserialize, Serialize};

use crate::Model;
use crate::event::Time;
use crate::facts::{Fact, prefix_len, prefix_of};
use crate::workload::WorkloadSummary;

/// Addresses of one network and port from which the whole network is let through.
const ADDRESSES_FOR_A_NETWORK: usize = 3;

/// A destination that a frozen baseline holds: a gate in the fence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FrozenDestination {
    /// Who used it.
    pub exe: Arc<str>,
    /// Address, or the network's first.
    pub net: IpAddr,
    /// 32 or 128 for an address, 24 or 48 for a network.
    pub prefix_len: u8,
    /// Port.
    pub port: u16,
    /// IPPROTO_*.
    pub protocol: u8,
}

/// One fact of a baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineFact {
    /// The fact.
    pub fact: Fact,
    /// How often, by different processes in a row.
    pub count: u32,
    /// On how many days.
    pub days: u32,
    /// First time.
    pub first_seen: Time,
    /// Whether the frozen baseline holds it.
    pub frozen: bool,
}

impl Model {
    /// Names of all workloads, sorted.
    pub fn workloads(&self) -> Vec<Arc<str>> {
        self.workloads.keys().cloned().collect()
    }

    /// A workload in numbers.
    pub fn summary(&self, workload: &str) -> Option<WorkloadSummary> {
        Some(self.workloads.get(workload)?.summary())
    }

    /// Programs of a workload, sorted.
    pub fn exes(&self, workload: &str) -> Vec<Arc<str>> {
        self.workloads
            .get(workload)
            .map_or_else(Vec::new, |known| known.reference().sequences.keys().cloned().collect())
    }

    /// What the kernel's bitset of a program holds: its trigrams, and its trigger calls as pseudo-trigrams.
    pub fn seen_trigrams(&self, workload: &str, exe: &str) -> Vec<u32> {
        let Some(known) = self.workloads.get(workload) else { return Vec::new() };
        let baseline = known.reference();
        let trigrams = baseline.sequences.get(exe).into_iter().flat_map(|sequences| sequences.trigrams());
        let triggers = baseline.facts.facts().filter_map(|(fact, _)| match fact {
            Fact::Trigger { exe: of, number, class } if &**of == exe => Some(token::trigger_trigram(*number, *class)),
            _ => None,
        });
        trigrams.chain(triggers).collect()
    }

    /// The destinations that a fence lets through: addresses, and networks that were used at several.
    pub fn frozen_destinations(&self, workload: &str) -> Vec<FrozenDestination> {
        let Some(known) = self.workloads.get(workload) else { return Vec::new() };
        let mut addresses: Vec<FrozenDestination> = known
            .reference()
            .facts
            .facts()
            .filter_map(|(fact, _)| match fact {
                Fact::Destination { exe, address, port, protocol } => Some(FrozenDestination {
                    exe: exe.clone(),
                    net: *address,
                    prefix_len: if address.is_ipv4() { 32 } else { 128 },
                    port: *port,
                    protocol: *protocol,
                }),
                _ => None,
            })
            .collect();
        addresses.sort();
        let networks: Vec<FrozenDestination> = addresses
            .iter()
            .map(|known| FrozenDestination {
                net: prefix_of(known.net),
                prefix_len: prefix_len(known.net),
                ..known.clone()
            })
            .collect();
        let mut wide: Vec<FrozenDestination> = networks
            .iter()
            .filter(|network| networks.iter().filter(|other| other == network).count() >= ADDRESSES_FOR_A_NETWORK)
            .cloned()
            .collect();
        wide.sort();
        wide.dedup();
        addresses.extend(wide);
        addresses
    }

    /// Whether the baseline that a workload is judged against holds a fact.
    pub fn frozen_holds(&self, workload: &str, fact: &Fact) -> bool {
        self.workloads.get(workload).is_some_and(|known| known.reference().facts.get(fact).is_some())
    }

    /// Every fact of a workload, for people.
    pub fn baseline(&self, workload: &str) -> Vec<BaselineFact> {
        let Some(known) = self.workloads.get(workload) else { return Vec::new() };
        let frozen = known.frozen.as_deref();
        let facts = known.learned.facts.facts().map(|(fact, count)| BaselineFact {
            fact: fact.clone(),
            count: count.n,
            days: count.days,
            first_seen: count.first,
            frozen: frozen.is_some_and(|frozen| frozen.facts.get(fact).is_some()),
        });
        facts.collect()
    }

    /// Events of workloads that did not fit.
    pub fn unmodelled(&self) -> u64 {
        self.unmodelled
    }
}
