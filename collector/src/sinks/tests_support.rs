//! Findings, decisions and events for the tests of the sinks.

use std::net::SocketAddr;
use std::sync::Arc;

use model::Coordinate;
use model::event::{Body, Event, Process, Time, Window};
use model::explain::Part;
use uuid::Uuid;

use crate::decision::{Author, Decision, DecisionAction, DecisionState, Destination, Target};
use crate::finding::{Finding, FindingState, FindingType, ProcessSummary, Reason, Severity};
use crate::policy::mode::Mode;

fn at(seconds: u64) -> Time {
    Time { unix_ns: (1_790_000_000 + seconds) * 1_000_000_000, boot_ns: seconds * 1_000_000_000 }
}

pub fn window(workload: &str, number: u64) -> Arc<Event> {
    let process = Process {
        cookie: 77,
        pid: 700,
        workload: workload.into(),
        exe: "/usr/sbin/nginx".into(),
        script: None,
        cmdline: "nginx: worker".into(),
        uid: 33,
        loginuid: None,
        cgroup: 5,
        ancestors: vec![1],
        pre_existing: false,
    };
    let window = Window {
        tid: 700,
        why: 0,
        missed: 0,
        start_boot_ns: number,
        errors: 0,
        permission_errors: 0,
        read_bytes: 10,
        write_bytes: 20,
        class: [0; collector_common::syscall::CLASSES],
        novel_trigrams: vec![],
        trace: vec![1, 2, 3],
    };
    Arc::new(Event { at: at(number), process: Arc::new(process), body: Body::Window(window) })
}

pub fn finding() -> Arc<Finding> {
    let process = |cookie: u64, exe: &str, cmdline: &str| ProcessSummary {
        cookie,
        pid: cookie as u32,
        exe: exe.into(),
        cmdline: cmdline.into(),
        uid: 33,
        loginuid: (cookie == 4711).then_some(1000),
    };
    Arc::new(Finding {
        id: Uuid::from_u128(0x0198_f6a2_7c1e_7b32_9d55_2f3c_8d1e_0a11),
        kind: FindingType::ExecNovel,
        severity: Severity::High,
        state: FindingState::Open,
        host: "web-01".into(),
        workload: "unit:nginx.service".into(),
        mode: Mode::Enforcing,
        created: at(0),
        began: at(0),
        updated: at(9),
        count: 3,
        title: "nginx ran sh, which it never did".into(),
        anchor: 4711,
        tree: vec![process(4700, "/usr/sbin/nginx", "nginx: worker process"), process(4711, "/bin/sh", "sh -i")],
        score: 31.25,
        threshold: 18.5,
        calibrated: true,
        depth: Some((1.9, 8.4)),
        parts: vec![Part {
            coordinate: Coordinate::Lineage,
            bits: 14.5,
            contribution: 13.25,
            usual: (0.0, 1.5),
            because: "nginx > sh never seen".into(),
        }],
        reasons: vec![
            Reason {
                what: "exec edge".into(),
                now: "nginx > sh".into(),
                usual: "7 edges, none to sh".into(),
                bits: 14.5,
            },
            Reason {
                what: "destination".into(),
                now: "203.0.113.7:4444/tcp".into(),
                usual: "3 destinations".into(),
                bits: 11.0,
            },
        ],
        program: "".into(),
        facts: vec![],
        happened: vec!["execve /bin/sh".into(), "connect 203.0.113.7:4444".into()],
        related: vec![Uuid::from_u128(9)],
        decisions: vec![1, 2],
        denied: 4,
        lost: 0.0,
        stale: false,
        test: false,
    })
}

pub fn decision() -> Arc<Decision> {
    let remote: SocketAddr = "203.0.113.7:4444".parse().unwrap();
    let to = Destination { net: remote.ip().into(), ports: vec![(4444, 4444)] };
    Arc::new(Decision {
        number: 1,
        target: Target::TreeAddress { cookie: 4711, to },
        action: DecisionAction::DenyConnect,
        shadow: false,
        allowed: vec![],
        allowed_files: vec![],
        contained: None,
        author: Author::Automatic,
        finding: Some(finding().id),
        reason: "never-seen destination".into(),
        workload: Some("unit:nginx.service".into()),
        created: at(9),
        until: at(609),
        state: DecisionState::Active,
        ended: None,
        release: None,
        hits: 4,
        breaker: 3,
        test: false,
    })
}
