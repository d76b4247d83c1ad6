//! Readiness: what is missing is said in words.

use model::WorkloadSummary;

use super::{WEB, at, policy_in};
use crate::policy::mode::Mode;

#[test]
fn readiness_says_what_is_missing() {
    let policy = policy_in(Mode::Learning);
    let config = policy.config();
    let day = 86_400;
    let summary = WorkloadSummary {
        windows: 300,
        lossy: 0,
        execs: 20,
        flows: 5,
        exes: 2,
        exec_edges: 3,
        destinations: 1,
        trigrams: 40,
        first_seen: at(0),
        last_seen: at(10 * day),
        last_new: at(10 * day - 180),
        singleton_share: 0.0,
        overflow: 0,
        frozen: false,
        stale: Vec::new(),
    };
    let early = policy.readiness(&WEB.into(), &summary, 0.0, at(10 * day));
    assert!(!early.ready);
    assert_eq!(early.reasons, ["new fact 3 min ago; wait 7.0 d"]);
    let later = at(10 * day + config.quiet_seconds);
    assert!(policy.readiness(&WEB.into(), &summary, 0.0, later).ready);
    let lossy = policy.readiness(&WEB.into(), &summary, 0.02, later);
    assert!(!lossy.ready && lossy.flags.partial && lossy.reasons[0].contains("2.00 %"), "{:?}", lossy.reasons);
    let quiet = WorkloadSummary { windows: 3, execs: 1, ..summary };
    assert!(!policy.readiness(&WEB.into(), &quiet, 0.0, later).ready);
    let renewed = WorkloadSummary { stale: vec!["/srv/httpd".into()], ..quiet.clone() };
    assert!(policy.readiness(&WEB.into(), &renewed, 0.0, later).flags.stale);
    let much_later = policy.readiness(&WEB.into(), &quiet, 0.0, at(40 * day));
    assert!(much_later.ready && much_later.flags.too_quiet, "{much_later:?}");
}
