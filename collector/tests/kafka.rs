//! The Kafka sink against a real broker, read back by Apache Kafka's own console consumer.
//!
//! Needs STOCKADE_KAFKA_LIBS, the directory that `cargo xtask kafka libs` prints; skips without it.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use collector::decision::{Author, Decision, DecisionAction, DecisionState, Target};
use collector::finding::{Finding, FindingState, FindingType, Severity};
use collector::policy::mode::Mode;
use collector::sinks::kafka::{Kafka, KafkaConfig};
use collector::sinks::{Change, Fanout, Kind, Message, Sink, SinkConfig, SinkStatus};
use model::event::{Body, Event, Process, Time, Window};
use uuid::Uuid;

#[path = "../../xtask/src/kafka/broker.rs"]
mod broker;
#[path = "support/skip.rs"]
mod skip;
use broker::Broker;
use skip::skipped;

/// A broker that ends with the test, also when it fails.
struct Running {
    broker: Broker,
    child: Option<Child>,
}

impl Running {
    fn start(&mut self) {
        self.child = Some(self.broker.start().unwrap());
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
            child.wait().unwrap();
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A broker that is not started yet; none when there are no jars.
fn broker(directory: &Path) -> Option<Running> {
    let Some(libs) = std::env::var_os("STOCKADE_KAFKA_LIBS") else {
        skipped("tests on a broker: no jars (STOCKADE_KAFKA_LIBS=$(cargo xtask kafka libs))");
        return None;
    };
    let broker = Broker::prepare(&PathBuf::from(libs), &directory.join("broker")).unwrap();
    Some(Running { broker, child: None })
}

fn config(running: &Running, directory: &Path) -> KafkaConfig {
    let text = format!(
        "brokers = [\"{}\"]\nspool = \"{}\"\ncreate_topics = true\npartitions = 3\nreplication = 1\n",
        running.broker.address(),
        directory.join("spool").display()
    );
    toml::from_str(&text).unwrap()
}

fn fanout(running: &Running, directory: &Path) -> Fanout {
    Fanout::start(vec![SinkConfig::Kafka(config(running, directory))], "web-01".into()).unwrap()
}

fn at(number: u64) -> Time {
    Time { unix_ns: 1_790_000_000_000_000_000 + number, boot_ns: number }
}

/// A finding of one of three workloads; `count` numbers it.
fn finding(number: u64) -> Message {
    let finding = Finding {
        id: Uuid::from_u128(u128::from(number)),
        kind: FindingType::ExecNovel,
        severity: Severity::Medium,
        state: FindingState::Open,
        host: "web-01".into(),
        workload: format!("unit:{}.service", number % 3).into(),
        mode: Mode::Monitoring,
        created: at(number),
        began: at(number),
        updated: at(number),
        count: number as u32,
        title: "never-seen\u{1b}[31m exec \u{202e}".into(),
        anchor: 7,
        tree: vec![],
        score: 20.0,
        threshold: 18.0,
        calibrated: false,
        depth: None,
        parts: vec![],
        reasons: vec![],
        program: "".into(),
        facts: vec![],
        happened: vec![],
        related: vec![],
        decisions: vec![],
        denied: 0,
        lost: 0.0,
        stale: false,
        test: false,
    };
    Message::Finding(Change::Created, Arc::new(finding))
}

fn decision(number: u64) -> Message {
    let decision = Decision {
        number,
        target: Target::Tree { cookie: 7 },
        action: DecisionAction::Isolate,
        shadow: false,
        allowed: vec![],
        allowed_files: vec![],
        contained: None,
        author: Author::Operator("alice".into()),
        finding: None,
        reason: "test".into(),
        workload: Some("unit:0.service".into()),
        created: at(number),
        until: at(number + 1),
        state: DecisionState::Active,
        ended: None,
        release: None,
        hits: 0,
        breaker: 0,
        test: false,
    };
    Message::Decision(Change::Created, Arc::new(decision))
}

fn window(number: u64) -> Message {
    let process = Process {
        cookie: 77,
        pid: 700,
        workload: "unit:nginx.service".into(),
        exe: "/usr/sbin/nginx".into(),
        script: None,
        cmdline: "nginx: worker process".into(),
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
        read_bytes: number,
        write_bytes: 20,
        class: [0; collector_common::syscall::CLASSES],
        novel_trigrams: vec![],
        trace: vec![7; 128],
    };
    Message::Event(Arc::new(Event { at: at(number), process: Arc::new(process), body: Body::Window(window) }))
}

/// A record as the console consumer prints it.
struct Read {
    headers: BTreeMap<String, String>,
    key: String,
    value: serde_json::Value,
}

impl Read {
    fn id(&self) -> &str {
        &self.headers["stockade-id"]
    }
}

/// Everything in a topic, read by an independent client.
fn read(running: &Running, kind: &str) -> Vec<Read> {
    let output = running
        .broker
        .java(&["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg("org.apache.kafka.tools.consumer.ConsoleConsumer")
        .args(["--bootstrap-server", &running.broker.address(), "--topic", &format!("stockade.{kind}.v1")])
        .args(["--from-beginning", "--timeout-ms", "6000"])
        .args(["--property", "print.headers=true", "--property", "print.key=true"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let records: Vec<Read> = text.lines().filter_map(parse).collect();
    assert!(!records.is_empty(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    records
}

fn parse(line: &str) -> Option<Read> {
    let (headers, rest) = line.split_once('\t')?;
    let (key, value) = rest.split_once('\t')?;
    let headers = headers.split(',').filter_map(|header| header.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Some(Read { headers, key: key.to_owned(), value: serde_json::from_str(value).unwrap() })
}

fn status(fanout: &Fanout) -> SinkStatus {
    fanout.status().remove(0)
}

/// Waits until so many messages are acknowledged or dropped.
fn wait_for(fanout: &Fanout, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while status(fanout).sent + status(fanout).dropped < count {
        assert!(Instant::now() < deadline, "{:?}", status(fanout));
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_sent_is_read_back_by_another_client() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut running) = broker(directory.path()) else { return };
    running.start();
    let fanout = fanout(&running, directory.path());
    for number in 0..300 {
        fanout.send(&finding(number));
        fanout.send(&window(number));
    }
    fanout.send(&decision(1));
    wait_for(&fanout, 601);
    let status = status(&fanout);
    assert_eq!((status.sent, status.dropped, status.queued, status.spooled_bytes), (601, 0, 0, 0), "{status:?}");
    assert!(fanout.close(Duration::from_secs(10)).is_empty());

    let findings = read(&running, "findings");
    assert_eq!(findings.len(), 300);
    assert_eq!(findings.iter().map(Read::id).collect::<BTreeSet<_>>().len(), 300, "every message has an id of its own");
    for read in &findings {
        assert_eq!(read.headers["content-type"], "application/json");
        assert_eq!(read.headers["stockade-schema"], "stockade.findings.v1");
        let workload = read.value["finding"]["workload"].as_str().unwrap();
        assert_eq!(read.key, format!("web-01|{workload}"));
        assert_eq!(read.value["finding"]["title"], "never-seen\u{1b}[31m exec \u{202e}");
    }
    let windows = read(&running, "windows");
    let bytes: BTreeSet<_> =
        windows.iter().map(|read| read.value["event"]["body"]["read_bytes"].as_u64().unwrap()).collect();
    assert_eq!(bytes, (0..300).collect());
    assert!(windows.iter().all(|read| read.value["event"]["body"]["trace"].as_array().unwrap().is_empty()));
    assert_eq!(read(&running, "decisions")[0].value["decision"]["number"], 1);
}

#[test]
fn a_broker_that_goes_and_comes_costs_no_finding_and_no_time() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut running) = broker(directory.path()) else { return };

    // A process that dies before there ever was a broker leaves its findings to the next.
    let mut dead = Kafka::open(config(&running, directory.path()), "web-01".into()).unwrap();
    for number in 0..50 {
        dead.deliver(Kind::Finding, &finding(number)).unwrap();
    }
    dead.tick().unwrap();
    drop(dead);

    let fanout = fanout(&running, directory.path());
    let mut findings = 50;
    let mut windows = 0;
    let mut slowest = Vec::new();
    let mut send = |count: u64| {
        for _ in 0..count {
            let before = Instant::now();
            fanout.send(&finding(findings));
            (0..10).for_each(|offset| fanout.send(&window(windows + offset)));
            slowest.push(before.elapsed());
            findings += 1;
            windows += 10;
            sleep(Duration::from_millis(2));
        }
    };
    send(1000);
    let deadline = Instant::now() + Duration::from_secs(30);
    while status(&fanout).spooled_bytes < 1_000_000 || status(&fanout).last_error.is_none() {
        assert!(Instant::now() < deadline, "the spool should fill: {:?}", status(&fanout));
        sleep(Duration::from_millis(20));
    }
    assert_eq!(status(&fanout).sent, 0);
    running.start();
    send(100);
    running.stop();
    send(100);
    running.start();
    send(100);
    running.kill();
    send(100);
    running.start();
    send(100);
    wait_for(&fanout, findings + windows);
    let status = status(&fanout);
    assert_eq!(status.dropped_by_kind.get(Kind::Finding), 0, "{status:?}");
    assert_eq!(status.sent + status.dropped, findings + windows, "the ledger closes");
    assert!(fanout.close(Duration::from_secs(10)).is_empty());

    // Eleven sends together; a machine that is busy may take the processor away now and then, a wait for a broker would not be rare.
    slowest.sort();
    let almost_all = slowest[slowest.len() * 998 / 1000];
    assert!(almost_all < Duration::from_millis(50), "sending waited {almost_all:?}, at worst {:?}", slowest.last());

    let records = read(&running, "findings");
    let ids: BTreeSet<_> = records.iter().map(Read::id).collect();
    assert_eq!(ids.len() as u64, findings, "a finding is lost");
    let mut last = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for read in records.iter().filter(|read| seen.insert(read.id().to_owned())) {
        let number = read.value["finding"]["count"].as_u64().unwrap();
        if let Some(before) = last.insert(read.key.clone(), number) {
            assert!(before < number, "{} came after {before} of {}", number, read.key);
        }
    }
    let windows_read = read(&running, "windows");
    let distinct: BTreeSet<_> = windows_read.iter().map(Read::id).collect();
    assert_eq!(
        distinct.len() as u64 + status.dropped_by_kind.get(Kind::Window),
        windows,
        "a window is lost and not counted"
    );
}

#[test]
fn an_orderly_end_without_a_broker_keeps_everything_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut running) = broker(directory.path()) else { return };
    let first = fanout(&running, directory.path());
    (0..100).for_each(|number| first.send(&window(number)));
    assert!(first.close(Duration::from_millis(300)).is_empty());
    running.start();
    let second = fanout(&running, directory.path());
    (100..200).for_each(|number| second.send(&window(number)));
    wait_for(&second, 200);
    assert!(second.close(Duration::from_secs(10)).is_empty());
    let numbers: Vec<_> = read(&running, "windows")
        .iter()
        .map(|read| read.value["event"]["body"]["read_bytes"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}
