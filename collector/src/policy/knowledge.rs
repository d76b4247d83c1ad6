//! What the policy asks of the model: thresholds, health and what the fence lets through.

use ipnet::IpNet;
use model::{Health, Model};

use crate::decision::Destination;

/// Port ranges that one kernel entry holds.
const RANGES: usize = collector_common::deny::PORT_RULES;

/// The three questions. A trait so that policy tests need no trained model.
pub trait Knowledge {
    /// Threshold in bits, and whether it is a return level of this host's own data.
    fn threshold(&self) -> (f64, bool);
    /// Whether the model can be relied on for a workload: only a healthy one causes denials.
    fn health(&self, workload: &str) -> Health;
    /// Destinations that the workload's frozen facts hold: `(net, port)`.
    fn frozen(&self, workload: &str) -> Vec<(IpNet, u16)>;
}

impl Knowledge for Model {
    fn threshold(&self) -> (f64, bool) {
        let threshold = Model::threshold(self);
        (threshold.level, threshold.calibrated)
    }

    fn health(&self, workload: &str) -> Health {
        self.health_of(workload)
    }

    fn frozen(&self, workload: &str) -> Vec<(IpNet, u16)> {
        self.frozen_destinations(workload)
            .into_iter()
            .filter_map(|known| Some((IpNet::new(known.net, known.prefix_len).ok()?.trunc(), known.port)))
            .collect()
    }
}

/// Gates of a fence: one destination a net, its ports as at most four ranges.
///
/// With more ports than ranges the closest ones are joined: the gate grows wider, never narrower, because a fence may not
/// deny what the workload always did.
pub fn gates(mut frozen: Vec<(IpNet, u16)>) -> Vec<Destination> {
    frozen.sort_unstable();
    frozen.dedup();
    let mut gates: Vec<Destination> = Vec::new();
    for (net, port) in frozen {
        match gates.last_mut() {
            Some(gate) if gate.net == net => gate.ports.push((port, port)),
            _ => gates.push(Destination { net, ports: vec![(port, port)] }),
        }
    }
    for gate in &mut gates {
        while gate.ports.len() > RANGES {
            join_closest(&mut gate.ports);
        }
    }
    gates
}

fn join_closest(ranges: &mut Vec<(u16, u16)>) {
    let distance = |pair: &[(u16, u16)]| pair[1].0 - pair[0].1;
    let closest = ranges.windows(2).enumerate().min_by_key(|(_, pair)| distance(pair)).map(|(index, _)| index);
    if let Some(index) = closest {
        ranges[index].1 = ranges[index + 1].1;
        ranges.remove(index + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_hold_every_known_port_in_at_most_four_ranges() {
        let net: IpNet = "10.0.0.1/32".parse().unwrap();
        let ports = [22, 80, 81, 443, 5432, 6379, 9092];
        let made = gates(ports.iter().map(|port| (net, *port)).chain([(net, 80)]).collect());
        assert_eq!(made.len(), 1);
        assert!(made[0].ports.len() <= RANGES);
        for port in ports {
            assert!(made[0].ports.iter().any(|(first, last)| (*first..=*last).contains(&port)), "{port}");
        }
    }
}
