//! Topics of the agent's Kafka sink, read from given offsets to where they end now. Nothing is committed: who reads them
//! again gets the same.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

/// The longest that a broker may keep silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to read.
#[derive(Clone, Debug)]
pub struct Topics {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Their names.
    pub names: Vec<String>,
    /// First offset of each partition; where the broker keeps less, its first.
    pub from: i64,
    /// Further settings of librdkafka, e.g. `security.protocol`.
    pub settings: Vec<(String, String)>,
}

/// Where a message stood, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `topic/partition/offset`.
    pub place: String,
    /// Its value as text; `None` when it has none, or is not UTF-8.
    pub value: Option<String>,
}

/// Gives every message of the topics to `take`. How many they were.
///
/// # Errors
///
/// When a broker or topic is not there, or keeps silent for half a minute.
pub fn read(topics: &Topics, mut take: impl FnMut(Record) -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &topics.brokers)
        .set("group.id", "stockade-trainer")
        .set("enable.auto.commit", "false");
    topics.settings.iter().for_each(|(key, value)| {
        config.set(key, value);
    });
    let consumer: BaseConsumer = config.create().context("these Kafka settings are refused")?;
    let (list, mut left) = assignment(&consumer, topics)?;
    consumer.assign(&list).context("cannot read these partitions")?;
    let mut count = 0;
    while !left.is_empty() {
        let Some(message) = consumer.poll(PATIENCE) else {
            bail!(
                "{} said nothing for {} s, but {} partitions are not read to their end",
                topics.brokers,
                PATIENCE.as_secs(),
                left.len()
            );
        };
        let message = message.with_context(|| format!("cannot read from {}", topics.brokers))?;
        let key = (message.topic().to_owned(), message.partition());
        let Some(end) = left.get(&key).copied() else { continue };
        if message.offset() < end {
            let value = message.payload().and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_owned);
            let place = format!("{}/{}/{}", message.topic(), message.partition(), message.offset());
            take(Record { place, value })?;
            count += 1;
        }
        if message.offset() + 1 >= end {
            left.remove(&key);
        }
    }
    Ok(count)
}

type Ends = BTreeMap<(String, i32), i64>;

/// Every partition that holds something at or after its first offset, and where it ends now.
fn assignment(consumer: &BaseConsumer, topics: &Topics) -> anyhow::Result<(TopicPartitionList, Ends)> {
    let (mut list, mut ends) = (TopicPartitionList::new(), Ends::new());
    for name in &topics.names {
        let metadata = consumer.fetch_metadata(Some(name), PATIENCE);
        let metadata = metadata.with_context(|| format!("cannot ask {} about {name}", topics.brokers))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none());
        let topic = topic.with_context(|| format!("{} has no topic {name}", topics.brokers))?;
        for partition in topic.partitions() {
            let marks = consumer.fetch_watermarks(name, partition.id(), PATIENCE);
            let (low, high) = marks.with_context(|| format!("cannot ask where {name}/{} ends", partition.id()))?;
            let first = topics.from.max(low);
            if first < high {
                list.add_partition_offset(name, partition.id(), Offset::Offset(first))?;
                ends.insert((name.clone(), partition.id()), high);
            }
        }
    }
    Ok((list, ends))
}
