//! Topics of the agent's Kafka sink, read from given offsets to where they end now. Nothing is committed to the broker: who
//! reads them again gets the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};

/// The longest that a broker may keep silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// The header by which the sink numbers its messages; one that it sends again has the same.
const ID: &str = "stockade-id";

/// A topic and the number of its partition.
pub type Partition = (String, i32);

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Their names.
    pub names: Vec<String>,
    /// First offset of each partition that is not named below.
    pub from: i64,
    /// First offset of these partitions.
    pub starts: BTreeMap<Partition, i64>,
    /// Further settings of librdkafka, e.g. `security.protocol`.
    pub settings: Vec<(String, String)>,
}

/// Where a message stood, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `topic/partition/offset`.
    pub place: String,
    /// The sender's number of it.
    pub id: Option<String>,
    /// Its value as text; `None` when it has none, or is not UTF-8.
    pub value: Option<String>,
}

/// What was read of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub partition: Partition,
    /// First offset that was asked for.
    pub from: i64,
    /// First offset that was not read.
    pub until: i64,
    /// Offsets that were asked for and that the broker does not keep any more.
    pub gone: i64,
}

/// Gives every message of the topics to `take`, topic by topic.
///
/// # Errors
///
/// When a broker or topic is not there, ends before the first offset, or keeps silent for half a minute.
pub fn read(topics: &Topics, mut take: impl FnMut(Record) -> anyhow::Result<()>) -> anyhow::Result<Vec<Taken>> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &topics.brokers)
        .set("group.id", "stockade-trainer")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true");
    topics.settings.iter().for_each(|(key, value)| {
        config.set(key, value);
    });
    let consumer: BaseConsumer = config.create().context("these Kafka settings are refused")?;
    let mut all = Vec::new();
    for name in &topics.names {
        let taken = partitions(&consumer, topics, name)?;
        read_topic(&consumer, topics, &taken, &mut take)?;
        all.extend(taken);
    }
    Ok(all)
}

fn read_topic(
    consumer: &BaseConsumer,
    topics: &Topics,
    taken: &[Taken],
    take: &mut impl FnMut(Record) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut list, mut left) = (TopicPartitionList::new(), BTreeMap::new());
    for Taken { partition: (name, number), from, until, gone } in taken {
        if from + gone < *until {
            list.add_partition_offset(name, *number, Offset::Offset(from + gone))?;
            left.insert(*number, *until);
        }
    }
    consumer.assign(&list).context("cannot read these partitions")?;
    let mut heard = Instant::now();
    while !left.is_empty() {
        if heard.elapsed() >= PATIENCE {
            let silent = "said nothing for";
            let (seconds, many) = (PATIENCE.as_secs(), left.len());
            bail!("{} {silent} {seconds} s, but {many} partitions are not read to their end", topics.brokers);
        }
        match consumer.poll(Duration::from_secs(1)) {
            None => continue,
            // A broker that goes may come again.
            Some(Err(error)) if is_passing(&error) => continue,
            // The last offsets of a partition may hold nothing: what was compacted, or the end of a transaction.
            Some(Err(KafkaError::PartitionEOF(number))) => drop(left.remove(&number)),
            Some(message) => {
                let message = message.with_context(|| format!("cannot read from {}", topics.brokers))?;
                let end = left.get(&message.partition()).copied().unwrap_or(0);
                if message.offset() < end {
                    take(record(&message))?;
                }
                if message.offset() + 1 >= end {
                    left.remove(&message.partition());
                }
            }
        }
        heard = Instant::now();
    }
    Ok(())
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let id = headers.filter(|header| header.key == ID).find_map(|header| header.value.and_then(text));
    Record {
        place: format!("{}/{}/{}", message.topic(), message.partition(), message.offset()),
        id,
        value: message.payload().and_then(text),
    }
}

fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut};
    let code = error.rdkafka_error_code();
    matches!(code, Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut)) || is_between_leaders(error)
}

/// A partition that was just made, or whose broker went, has no leader until the brokers agree on one.
fn is_between_leaders(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{LeaderNotAvailable, NotLeaderForPartition};
    matches!(error.rdkafka_error_code(), Some(LeaderNotAvailable | NotLeaderForPartition))
}

/// Asks again for as long as nobody leads what is asked about.
fn once_led<T>(ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
    let asked = Instant::now();
    loop {
        match ask() {
            Err(error) if is_between_leaders(&error) && asked.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(200));
            }
            answer => return answer,
        }
    }
}

/// Every partition of a topic, where it is to be read from, and where it ends now.
fn partitions(consumer: &BaseConsumer, topics: &Topics, name: &str) -> anyhow::Result<Vec<Taken>> {
    let numbers = once_led(|| numbers(consumer, name));
    let numbers = numbers.with_context(|| format!("cannot ask {} about {name}", topics.brokers))?;
    if numbers.is_empty() {
        bail!("{} has no topic {name}", topics.brokers);
    }
    let mut all = Vec::new();
    for number in numbers {
        let marks = once_led(|| consumer.fetch_watermarks(name, number, PATIENCE));
        let (low, high) = marks.with_context(|| format!("cannot ask where {name}/{number} ends"))?;
        let partition = (name.to_owned(), number);
        let from = match topics.starts.get(&partition) {
            Some(start) if *start > high => bail!(
                "{name}/{number} ends at offset {high}, but {start} is where to begin: was the topic made anew? \
                 Take it into another folder"
            ),
            Some(start) => *start,
            // What the broker dropped before anybody asked for it is not missed.
            None => topics.from.clamp(low, high),
        };
        all.push(Taken { partition, from, until: high, gone: (low - from).max(0) });
    }
    Ok(all)
}

/// The numbers of a topic's partitions; none when there is no such topic.
fn numbers(consumer: &BaseConsumer, name: &str) -> KafkaResult<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(name), PATIENCE)?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else { return Ok(Vec::new()) };
    match topic.error().map(RDKafkaErrorCode::from) {
        None => Ok(topic.partitions().iter().map(|partition| partition.id()).collect()),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(Vec::new()),
        Some(code) => Err(KafkaError::MetadataFetch(code)),
    }
}
