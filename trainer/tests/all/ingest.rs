//! Events from outside: good rows are taken, bad ones set aside with their reason, and a bad file leaves nothing behind.

use std::path::Path;

use model::journal::{Meta, Row};
use stockade_trainer::ingest::{ingest, ingest_topics};
use stockade_trainer::journal::{Journal, Writer};
use stockade_trainer::kafka::Topics;

use crate::support::{day, shop::World};

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().display().to_string())
        .collect();
    names.sort();
    names
}

#[test]
fn bad_lines_are_set_aside_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (events, _) = day(&mut World::new(1), &[]);
    let mut lines: Vec<String> = events.iter().take(20).map(|event| serde_json::to_string(event).unwrap()).collect();
    // As the agent's sinks write them, and one of a later version.
    lines[5] = format!("{{\"schema\":\"stockade.events.v1\",\"host\":\"web\",\"event\":{}}}", lines[5]);
    let later = format!("{{\"schema\":\"stockade.events.v2\",\"host\":\"web\",\"event\":{}}}", lines[6]);
    lines.insert(6, later);
    lines.insert(3, "{\"at\": NaN}".to_owned());
    lines.insert(9, "not json".to_owned());
    let file = folder.path().join("events.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let done = ingest(&file, &out, false).unwrap().unwrap();
    assert_eq!((done.rows, done.rejected), (20, 3));
    let read: Vec<model::Event> = Journal::open(&done.journal).unwrap().events().map(|event| event.unwrap()).collect();
    assert_eq!(read, events[..20]);
    let rejects = std::fs::read_to_string(out.join("events.rejects.jsonl")).unwrap();
    assert!(rejects.starts_with("{\"row\":4,\"reason\":") && rejects.lines().count() == 3, "{rejects}");
    assert!(rejects.contains("stockade.events.v2"), "{rejects}");
    assert_eq!(ingest(&file, &out, false).unwrap(), None, "it is there already");
}

#[test]
fn bad_rows_of_a_journal_are_set_aside_too() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("mixed.parquet"), folder.path().join("out"));
    let (events, _) = day(&mut World::new(1), &[]);
    let mut writer = Writer::create(&file, &Meta::default()).unwrap();
    writer.append(&Row { kind: "dance".into(), ..Row::from(&events[0]) }).unwrap();
    writer.append(&Row { cookie: 7, trace: None, remote: Some("nowhere".into()), ..Row::from(&events[1]) }).unwrap();
    writer.append(&Row::from(&events[2])).unwrap();
    writer.finish().unwrap();
    let done = ingest(&file, &out, false).unwrap().unwrap();
    assert!(done.rows >= 1 && done.rejected >= 1, "{done:?}");
    let rejects = std::fs::read_to_string(out.join("mixed.rejects.jsonl")).unwrap();
    assert!(rejects.contains("is no kind of event"), "{rejects}");
}

#[test]
fn files_that_hold_nothing_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let refused = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        format!("{:#}", ingest(&file, &out, false).unwrap_err())
    };
    assert!(refused("a.jsonl", b"").contains("holds no event"));
    assert!(refused("b.jsonl", b"{}\n{}\n").contains("2 rows that are none"));
    assert!(refused("c.jsonl", &vec![b'x'; 3 << 20]).contains("line 1: it is longer"));
    assert!(refused("d.parquet", b"PAR1").contains("is not a whole Parquet file"));
    assert!(refused("e.txt", b"").contains("neither a journal (.parquet) nor events (.jsonl)"));
    assert!(!out.exists() || files(&out).is_empty(), "{:?}", files(&out));
}

#[test]
fn topics_become_one_journal_a_host_in_event_time() {
    use rdkafka::config::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let cluster = MockCluster::new(1).expect("a broker in this process");
    cluster.create_topic("stockade.windows.v1", 3, 1).expect("a topic");
    cluster.create_topic("stockade.flows.v1", 1, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
    let (events, _) = day(&mut World::new(1), &[]);
    let send = |topic: &str, partition: i32, value: &str| {
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(value);
        producer.send(record).expect("queued");
    };
    for (n, event) in events.iter().take(60).enumerate() {
        let topic =
            if matches!(event.body, model::Body::Flow(_)) { "stockade.flows.v1" } else { "stockade.windows.v1" };
        let wrapped = serde_json::json!({"schema": topic, "host": "web/../1", "event": event});
        send(topic, if topic.contains("flows") { 0 } else { (n % 3) as i32 }, &wrapped.to_string());
    }
    send("stockade.flows.v1", 0, "no event");
    producer.flush(std::time::Duration::from_secs(10)).expect("sent");
    let folder = tempfile::tempdir().unwrap();
    let topics = |names: &[&str], from| Topics {
        brokers: brokers.clone(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        from,
        ..Topics::default()
    };
    let both = ["stockade.windows.v1", "stockade.flows.v1"];
    let done = ingest_topics(&topics(&both, 0), folder.path()).unwrap();
    let [journal] = &done.journals[..] else { panic!("{done:?}") };
    assert_eq!((journal.rows, done.rejected, done.number), (60, 1, 1));
    let within = journal.journal.strip_prefix(folder.path()).unwrap();
    assert!(within.starts_with("web_.._1-e5092e3a"), "a host's name chooses no folder: {within:?}");
    let read: Vec<model::Event> =
        Journal::open(&journal.journal).unwrap().events().map(|event| event.unwrap()).collect();
    assert!(read.is_sorted_by_key(|event| event.at.boot_ns));
    let rejects = std::fs::read_to_string(folder.path().join("run-0001.rejects.jsonl")).unwrap();
    assert!(rejects.contains("stockade.flows.v1/0/"), "{rejects}");
    let other = tempfile::tempdir().unwrap();
    let later = ingest_topics(&topics(&both[..1], 2), other.path()).unwrap();
    assert!(later.journals[0].rows < 60, "from the third message of each partition on");
    let refused = ingest_topics(&topics(&["no.such.topic"], 0), other.path()).unwrap_err();
    assert!(format!("{refused:#}").contains("no.such.topic"), "{refused:#}");
}

#[test]
fn a_partition_without_a_leader_is_asked_again() {
    use rdkafka::config::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    let cluster = MockCluster::new(1).expect("a broker in this process");
    let name = "stockade.windows.v1";
    cluster.create_topic(name, 1, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
    let (events, _) = day(&mut World::new(1), &[]);
    let wrapped = serde_json::json!({"schema": name, "host": "web", "event": events[0]});
    producer.send(BaseRecord::<(), str>::to(name).payload(&wrapped.to_string())).expect("queued");
    producer.flush(std::time::Duration::from_secs(10)).expect("sent");
    let no_leader = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    cluster.request_errors(RDKafkaApiKey::ListOffsets, &[no_leader; 4]);
    let folder = tempfile::tempdir().unwrap();
    let topics = Topics { brokers, names: vec![name.to_owned()], ..Topics::default() };
    let done = ingest_topics(&topics, folder.path()).unwrap();
    assert_eq!(done.journals.iter().map(|journal| journal.rows).sum::<u64>(), 1);
}
