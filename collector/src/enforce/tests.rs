//! The entries against the decisions themselves, by brute force.

use std::net::{IpAddr, Ipv4Addr};

use collector_common::deny::Action;
use collector_common::map::Lineage;
use model::event::Time;
use proptest::prelude::*;

use super::evaluate::{Subject, verdict};
use super::*;
use crate::decision::{Author, DecisionAction, Destination, Target};

fn decision(number: u64, target: Target, until_ns: u64) -> Decision {
    Decision {
        number,
        target,
        action: DecisionAction::Isolate,
        shadow: false,
        allowed: Vec::new(),
        allowed_files: Vec::new(),
        contained: None,
        author: Author::Operator("test".to_owned()),
        finding: None,
        reason: String::new(),
        workload: None,
        created: Time::default(),
        until: Time { unix_ns: 0, boot_ns: until_ns },
        state: DecisionState::Active,
        ended: None,
        release: None,
        hits: 0,
        breaker: 0,
        test: true,
    }
}

fn to(net: &str, ports: &[(u16, u16)]) -> Destination {
    Destination { net: net.parse().expect("a prefix"), ports: ports.to_vec() }
}

fn lineage(cookie: u64, near: [u64; 8]) -> Lineage {
    Lineage { cookie, root: 1, near, ..Lineage::default() }
}

/// What the decisions themselves say.
fn denied(live: &[Decision], now: u64, who: &Lineage, cgroups: &[u64], address: IpAddr, port: u16) -> bool {
    let reaches = |to: &Destination| to.net.contains(&address) && effective::has_port(to, port);
    live.iter().filter(|decision| decision.is_live(now) && !decision.shadow).any(|decision| {
        let of_tree = |cookie: u64| who.cookie == cookie || who.near.contains(&cookie) || who.root == cookie;
        let meant = match &decision.target {
            Target::Tree { cookie } => of_tree(*cookie),
            Target::TreeAddress { cookie, to } => of_tree(*cookie) && reaches(to),
            Target::Cgroup { id, .. } => cgroups.contains(id),
            Target::Address { to } => reaches(to),
            Target::Executable { .. } | Target::CgroupExecutable { .. } => false,
        };
        meant && !decision.allowed.iter().any(reaches)
    })
}

#[test]
fn two_decisions_on_one_key_are_undone_one_at_a_time() {
    let (who, mut slots) = (lineage(5, [4, 3, 0, 0, 0, 0, 0, 0]), Slots::default());
    let address = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
    let subject = Subject { lineage: &who, cgroups: &[] };
    let mut live = vec![decision(1, Target::Tree { cookie: 4 }, 1_000), decision(2, Target::Tree { cookie: 4 }, 5_000)];
    let ask = |live: &[Decision], now, slots: &mut Slots| {
        let effective = Effective::of(live, now, slots).expect("fits");
        verdict(&effective, now, subject, Action::Connect, address, 80).map(|denial| denial.until_ns)
    };
    assert_eq!(ask(&live, 10, &mut slots), Some(5_000), "the latest deadline holds");
    live.remove(1);
    assert_eq!(ask(&live, 10, &mut slots), Some(1_000), "the other one is still in force");
    assert_eq!(ask(&live, 1_000, &mut slots), None, "and lapses at its own deadline");
}

#[test]
fn a_gate_opens_when_the_last_decision_without_it_lapses() {
    let (who, mut slots) = (lineage(5, [0; 8]), Slots::default());
    let database: IpAddr = "10.0.0.2".parse().expect("an address");
    let mut fenced = decision(1, Target::Tree { cookie: 5 }, 9_000);
    fenced.allowed = vec![to("10.0.0.2/32", &[(5432, 5432)])];
    let live = [fenced, decision(2, Target::Tree { cookie: 5 }, 1_000)];
    // One sum, made once: with the agent dead nobody computes it anew.
    let effective = Effective::of(&live, 10, &mut slots).expect("fits");
    let ask = |now, port| {
        let subject = Subject { lineage: &who, cgroups: &[] };
        verdict(&effective, now, subject, Action::Egress, database, port).is_some()
    };
    assert!(ask(10, 5432), "the second decision allows nothing");
    assert!(!ask(1_000, 5432), "it has lapsed; the fence lets the database through");
    assert!(ask(1_000, 80), "but nothing else");
    assert!(!ask(9_000, 80));
}

#[test]
fn a_full_kernel_table_refuses_and_evicts_nobody() {
    let mut slots = Slots::default();
    let many: Vec<_> =
        (1..=u64::from(collector_common::map::MAX_DENY)).map(|n| decision(n, Target::Tree { cookie: n }, 9)).collect();
    let error = Effective::of(&many, 0, &mut slots).expect_err("one more than the slots");
    assert!(error.to_string().contains("nothing was evicted"), "{error}");
}

fn targets() -> impl Strategy<Value = Target> {
    let net = prop_oneof![
        Just("10.0.0.0/8"),
        Just("10.0.0.0/24"),
        Just("10.0.0.2/32"),
        Just("0.0.0.0/0"),
        Just("2001:db8::/32")
    ];
    let ports = prop_oneof![Just(vec![]), Just(vec![(80u16, 80u16)]), Just(vec![(1u16, 1024u16)])];
    let place = (net, ports).prop_map(|(net, ports)| to(net, &ports));
    prop_oneof![
        (1u64..6).prop_map(|cookie| Target::Tree { cookie }),
        (1u64..6, place.clone()).prop_map(|(cookie, to)| Target::TreeAddress { cookie, to }),
        (1u64..4).prop_map(|id| Target::Cgroup { id, level: 2, path: "/a/b".into() }),
        place.prop_map(|to| Target::Address { to }),
    ]
}

fn decisions() -> impl Strategy<Value = Vec<Decision>> {
    let gates = prop_oneof![
        Just(vec![]),
        Just(vec![to("10.0.0.2/32", &[])]),
        Just(vec![to("10.0.0.0/24", &[(80, 80)]), to("10.0.0.2/32", &[(443, 443)])])
    ];
    let one = (targets(), 1u64..100, gates);
    proptest::collection::vec(one, 0..6).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(at, (target, until, allowed))| Decision { allowed, ..decision(at as u64 + 1, target, until) })
            .collect()
    })
}

proptest! {
    /// Whatever is decided and released in whatever order, the kernel's look-ups give what the decisions say, at once and
    /// at every later moment without a new sum.
    #[test]
    fn the_sum_says_what_the_decisions_say(mut live in decisions(), cookie in 1u64..6, near in 0u64..6, cgroup in 1u64..4, now in 0u64..50, later in 0u64..60) {
        let mut slots = Slots::default();
        let who = Lineage { cookie, root: 1, near: [near, 0, 0, 0, 0, 0, 0, 0], ..Lineage::default() };
        for _ in 0..=live.len() {
            let Ok(effective) = Effective::of(&live, now, &mut slots) else { return Ok(()) };
            for address in ["10.0.0.2", "10.0.0.9", "10.1.0.1", "8.8.8.8", "2001:db8::1"] {
                let address: IpAddr = address.parse().expect("an address");
                for port in [80, 443, 5432] {
                    for at in [now, now + later] {
                        let subject = Subject { lineage: &who, cgroups: &[cgroup] };
                        let kernel = verdict(&effective, at, subject, Action::Connect, address, port);
                        let plain = denied(&live, at, &who, &[cgroup], address, port);
                        prop_assert_eq!(kernel.is_some(), plain, "{} {} at {}: {:?}", address, port, at, &live);
                    }
                }
            }
            live.pop();
        }
    }
}
