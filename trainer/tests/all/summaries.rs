//! Training on N shards equals training on one, bit for bit.

use std::sync::Arc;

use crate::support::{day, plan, shop::World};
use stockade_trainer::summary::{Summaries, SummaryParams};

fn events() -> Vec<model::Event> {
    let mut world = World::new(11);
    plan().iter().flat_map(|(_, extras)| day(&mut world, extras).0).collect()
}

fn params() -> SummaryParams {
    SummaryParams { rows: 64, ..SummaryParams::default() }
}

#[test]
fn shards_in_any_order_are_one_bit_for_bit() {
    let (host, events): (Arc<str>, _) = ("web".into(), events());
    let mut whole = Summaries::new(params());
    events.iter().for_each(|event| whole.add(&host, event));
    for shards in [2, 3, 7] {
        let mut parts: Vec<Summaries> = (0..shards).map(|_| Summaries::new(params())).collect();
        events.iter().enumerate().for_each(|(n, event)| parts[(n * 31 + n / 5) % shards].add(&host, event));
        for backwards in [false, true] {
            if backwards {
                parts.reverse();
            }
            let mut merged = Summaries::new(params());
            parts.iter().for_each(|part| merged.merge(part).unwrap());
            assert_eq!(merged, whole);
            assert_eq!(merged.forest(50, 64, 9).unwrap(), whole.forest(50, 64, 9).unwrap());
            let bytes = |summaries: &Summaries| {
                serde_json::to_string(&(summaries.rows(), summaries.forest(5, 64, 1).unwrap())).unwrap()
            };
            assert_eq!(bytes(&merged), bytes(&whole));
        }
    }
}

#[test]
fn samples_are_bounded_and_other_parameters_are_refused() {
    let host: Arc<str> = "web".into();
    let mut summaries = Summaries::new(params());
    events().iter().for_each(|event| summaries.add(&host, event));
    assert!(summaries.rows() <= 64 * 10, "{}", summaries.rows());
    let other = Summaries::new(SummaryParams { rows: 65, ..params() });
    assert!(summaries.merge(&other).unwrap_err().to_string().contains("cannot be merged"));
}
