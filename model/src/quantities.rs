//! Numbers that events carry: how much, how many, how often. They teach the distributions and the courses of a workload.

use collector_common::flow::{Direction, Why};

use crate::Model;
use crate::drift::Gauge;
use crate::event::{Body, Event};
use crate::features::FeatureVector;
use crate::workload::Measures;

/// Numbers that an event carries, beside the coordinate that they feed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quantities {
    pub(crate) flow_bytes: Option<f64>,
    pub(crate) window_bytes: Option<f64>,
    pub(crate) errors: Option<f64>,
    pub(crate) permission_errors: Option<f64>,
    pub(crate) destinations: Option<f64>,
}

impl Model {
    pub(crate) fn quantities(&mut self, event: &Event, anchor: u64) -> Quantities {
        let mut all = Quantities::default();
        match &event.body {
            Body::Window(window) => {
                let per_full = 128.0 / f64::from(window.trace.len().max(1) as u32);
                all.window_bytes = Some(window.read_bytes.saturating_add(window.write_bytes) as f64);
                all.errors = Some(f64::from(window.errors) * per_full);
                all.permission_errors = Some(f64::from(window.permission_errors) * per_full);
            }
            Body::Flow(flow) => {
                if flow.why != Why::Novel as u8 {
                    all.flow_bytes = Some(flow.tx_bytes as f64);
                }
                if flow.direction == Direction::Out as u8 && self.has_room_for(anchor) {
                    let recent = self.recent.entry(anchor).or_default();
                    all.destinations = Some(recent.reach(event.at, (flow.remote.ip(), flow.remote.port())) as f64);
                }
            }
            _ => (),
        }
        all
    }

    pub(crate) fn learn_quantities(&mut self, event: &Event, quantities: &Quantities) {
        if let Some(known) = self.workloads.get_mut(&event.process.workload) {
            learn_numbers(&mut known.measures, quantities);
        }
        learn_numbers(&mut self.measures, quantities);
    }

    /// Follows how the quantities of a judged workload change from day to day.
    pub(crate) fn follow_drift(&mut self, event: &Event, own: &FeatureVector, quantities: &Quantities) {
        let Some(known) = self.workloads.get_mut(&event.process.workload) else { return };
        for (gauge, value) in gauged(event, own, quantities) {
            known.drift.learn(gauge, value, event.at);
        }
    }
}

/// What an event says about the courses of its workload.
fn gauged(event: &Event, own: &FeatureVector, quantities: &Quantities) -> Vec<(Gauge, f64)> {
    let of_kind: &[Gauge] = match event.body {
        Body::Window(_) => &[Gauge::Sequence, Gauge::RareCalls],
        Body::Exec(_) => &[Gauge::Lineage],
        Body::File(_) => &[Gauge::Files],
        Body::Flow(_) => &[Gauge::Net],
        Body::Fork(_) | Body::Exit(_) | Body::Deny(_) => &[],
    };
    let bits = of_kind.iter().map(|gauge| (*gauge, own.get(gauge.coordinate())));
    let numbers = [
        (Gauge::FlowBytes, quantities.flow_bytes),
        (Gauge::WindowBytes, quantities.window_bytes),
        (Gauge::Errors, quantities.errors),
        (Gauge::PermissionErrors, quantities.permission_errors),
        (Gauge::Destinations, quantities.destinations),
    ];
    bits.chain(numbers.into_iter().filter_map(|(gauge, value)| Some((gauge, value?)))).collect()
}

fn learn_numbers(measures: &mut Measures, quantities: &Quantities) {
    let rows = [
        (&mut measures.flow_bytes, quantities.flow_bytes),
        (&mut measures.window_bytes, quantities.window_bytes),
        (&mut measures.errors, quantities.errors),
        (&mut measures.permission_errors, quantities.permission_errors),
        (&mut measures.destinations, quantities.destinations),
    ];
    for (numbers, value) in rows {
        if let Some(value) = value {
            numbers.learn(value);
        }
    }
}
