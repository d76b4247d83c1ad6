//! `ingest` from a real broker: schema-checked, by offsets, and run after run without a loss or a repetition.
//!
//! Needs STOCKADE_KAFKA_LIBS, the directory that `cargo xtask kafka libs` prints; skips without it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use model::Event;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use stockade_trainer::journal::Journal;

#[path = "../../../xtask/src/kafka/broker.rs"]
mod broker;
#[path = "../../../collector/tests/support/skip.rs"]
mod skip;
use broker::Broker;

use crate::support::{day, shop::World};

const WINDOWS: &str = "stockade.windows.v1";
const FLOWS: &str = "stockade.flows.v1";

/// A broker that ends with the test, also when it fails.
struct Running(Broker, Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.1.kill().and_then(|()| self.1.wait());
    }
}

fn broker(directory: &Path) -> Option<Running> {
    let Some(libs) = std::env::var_os("STOCKADE_KAFKA_LIBS") else {
        skip::skipped("ingest from a broker: no jars (STOCKADE_KAFKA_LIBS=$(cargo xtask kafka libs))");
        return None;
    };
    let broker = Broker::prepare(&PathBuf::from(libs), &directory.join("broker")).expect("a broker");
    let child = broker.start().expect("a broker that runs");
    Some(Running(broker, child))
}

/// A topic's messages as the agent's sink writes them.
struct Sender {
    producer: BaseProducer,
    sent: usize,
}

impl Sender {
    fn send(&mut self, event: &Event) {
        let topic = if matches!(event.body, model::Body::Flow(_)) { FLOWS } else { WINDOWS };
        self.sent += 1;
        let wrapped = serde_json::json!({"schema": topic, "host": "web-01.example.com", "event": event});
        self.put(topic, &format!("id-{}", self.sent), &wrapped.to_string());
    }

    fn put(&self, topic: &str, id: &str, text: &str) {
        let headers = OwnedHeaders::new().insert(Header { key: "stockade-id", value: Some(id) });
        let number = id.bytes().map(i32::from).sum::<i32>() % if topic == WINDOWS { 3 } else { 1 };
        let record = BaseRecord::<(), str>::to(topic).partition(number).payload(text).headers(headers);
        self.producer.send(record).expect("queued");
    }

    fn flush(&self) {
        self.producer.flush(Duration::from_secs(30)).expect("sent");
    }
}

/// One run of the command: what it printed.
fn ingest(address: &str, out: &Path, more: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_stockade-trainer"))
        .args(["ingest", "--kafka", address, "--out"])
        .arg(out)
        .args(more)
        .output()
        .expect("the trainer");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

fn events_of(journal: &Path) -> Vec<Event> {
    Journal::open(journal).expect("a journal").events().map(|event| event.expect("an event")).collect()
}

/// What tells one event of the shop from another.
fn identity(event: &Event) -> String {
    serde_json::to_string(event).expect("text")
}

#[test]
fn runs_take_a_real_brokers_topics_without_loss_or_repetition() {
    let directory = tempfile::tempdir().unwrap();
    let Some(running) = broker(directory.path()) else { return };
    let address = running.0.address();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &address);
    let admin: AdminClient<DefaultClientContext> = config.create().expect("an admin client");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let new = |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let made = runtime.block_on(admin.create_topics(&[new(WINDOWS, 3), new(FLOWS, 1)], &AdminOptions::new()));
    assert!(made.expect("an answer").iter().all(Result::is_ok));
    let mut sender = Sender { producer: config.create().expect("a producer"), sent: 0 };
    let (out, other) = (directory.path().join("out"), directory.path().join("other"));

    let (good, said) = ingest(&address, &out, &[]);
    assert!(!good && said.contains("hold no event (0 messages that are none)"), "{said}");

    let (events, _) = day(&mut World::new(1), &[]);
    let events: Vec<Event> = events.into_iter().filter(|event| !matches!(event.body, model::Body::Exec(_))).collect();
    let (first, second) = events[..500].split_at(300);
    first.iter().for_each(|event| sender.send(event));
    sender.put(FLOWS, "bad", "no event");
    sender.put(WINDOWS, "later", r#"{"schema": "stockade.windows.v2", "host": "web", "event": {}}"#);
    sender.put(WINDOWS, "bare", &identity(&first[0]));
    sender.flush();
    let (good, said) = ingest(&address, &out, &[]);
    assert!(good && said.contains("took in  300 events") && said.contains("3 messages set aside"), "{said}");
    assert!(said.contains("read     stockade.windows.v1/2 from offset 0 to"), "{said}");
    let rejects = std::fs::read_to_string(out.join("run-0001.rejects.jsonl")).unwrap();
    assert!(rejects.contains("stockade.windows.v2") && rejects.contains("it names no schema"), "{rejects}");

    // More, and what the agent sends again after it was killed.
    second.iter().for_each(|event| sender.send(event));
    sender.sent -= 10;
    second[190..].iter().for_each(|event| sender.send(event));
    sender.flush();
    // A run that was broken off before its offsets were written.
    let journals = out.join("web-01.example.com");
    std::fs::copy(journals.join("run-0001.parquet"), journals.join("run-0002.parquet")).unwrap();
    let (good, said) = ingest(&address, &out, &[]);
    assert!(good && said.contains("took in  200 events") && said.contains("10 sent again"), "{said}");
    let (good, said) = ingest(&address, &out, &[]);
    assert!(good && said.contains("took in  nothing"), "{said}");
    let taken = [events_of(&journals.join("run-0001.parquet")), events_of(&journals.join("run-0002.parquet"))];
    assert!(taken.iter().all(|run| run.is_sorted_by_key(|event| event.at.boot_ns)));
    let distinct: BTreeSet<String> = taken.iter().flatten().map(identity).collect();
    let wanted: BTreeSet<String> = events[..500].iter().map(identity).collect();
    assert_eq!((taken[0].len() + taken[1].len(), distinct == wanted), (500, true));

    let (good, said) =
        ingest(&address, &other, &["--topics", FLOWS, "--from", "9", "--from", "stockade.flows.v1/0=40"]);
    assert!(good && said.contains("read     stockade.flows.v1/0 from offset 40 to"), "{said}");
    // The broker forgets what nobody had taken: that is said.
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(FLOWS, 0, Offset::Offset(50)).unwrap();
    runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).expect("an answer");
    let third = directory.path().join("third");
    let (good, said) = ingest(&address, &third, &["--topics", FLOWS, "--from", "stockade.flows.v1/0=40"]);
    assert!(good && said.contains("10 of them the broker keeps no more"), "{said}");
    let (good, said) = ingest(&address, &third, &["--topics", FLOWS, "--from", "stockade.flows.v1/0=1000000"]);
    assert!(good && said.contains("took in  nothing"), "where the last run ended counts: {said}");
    let fourth = directory.path().join("fourth");
    let (good, said) = ingest(&address, &fourth, &["--topics", FLOWS, "--from", "stockade.flows.v1/0=1000000"]);
    assert!(!good && said.contains("was the topic made anew?"), "{said}");
}
