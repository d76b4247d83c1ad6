//! The Kafka client: the only place of the agent that names `rdkafka`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::outcome::{Handed, Outcome};
use super::{KafkaConfig, Protocol};
use crate::sinks::frame::Frame;
use crate::sinks::{Kind, SinkError};

#[derive(Default)]
struct Reports {
    delivered: Mutex<Vec<(u64, Outcome)>>,
    trouble: Mutex<Option<String>>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Errors also come to `error`, once or more a second while brokers are down: status shows the last.
        tracing::debug!(?level, facility, message, "kafka client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        *lock(&self.trouble) = Some(format!("{error}: {reason}"));
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let outcome = match result {
            Ok(_) => {
                *lock(&self.trouble) = None;
                Outcome::Acknowledged
            }
            Err((error, _)) if is_final(error) => Outcome::Refused(error.to_string()),
            Err((error, _)) => Outcome::Failed(error.to_string()),
        };
        lock(&self.delivered).push((number as u64, outcome));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_final(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessage | RDKafkaErrorCode::InvalidRecord
        )
    )
}

/// A producer and what it heard.
pub struct Client {
    producer: BaseProducer<Reports>,
}

impl Client {
    /// Makes a producer; does not wait for a broker.
    ///
    /// # Errors
    /// The library refuses the settings, or a secret cannot be read.
    pub fn new(config: &KafkaConfig) -> Result<Self, SinkError> {
        let producer =
            settings(config)?.create_with_context(Reports::default()).map_err(|error| refused(config, &error))?;
        Ok(Self { producer })
    }

    /// Hands over a message under a number.
    pub fn send(&self, topic: &str, number: u64, frame: &Frame) -> Handed {
        let headers = OwnedHeaders::new_with_capacity(3)
            .insert(Header { key: "content-type", value: Some("application/json") })
            .insert(Header { key: "stockade-schema", value: Some(topic) })
            .insert(Header { key: "stockade-id", value: Some(&frame.id) });
        let record =
            BaseRecord::with_opaque_to(topic, number as usize).key(&frame.key).payload(&frame.value).headers(headers);
        match self.producer.send(record) {
            Ok(()) => Handed::Queued,
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => Handed::Full,
            Err((error, _)) if is_final(&error) => Handed::Refused(error.to_string()),
            Err((error, _)) => Handed::Failed(error.to_string()),
        }
    }

    /// Waits at most so long and gives the reports that came.
    pub fn poll(&self, wait: Duration) -> Vec<(u64, Outcome)> {
        self.producer.poll(wait);
        std::mem::take(&mut lock(&self.producer.context().delivered))
    }

    /// What the client complains about; none after a message was acknowledged.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.producer.context().trouble).clone()
    }

    /// The client cannot go on (an idempotent producer that lost its place): a new one is needed.
    pub fn fatal(&self) -> Option<String> {
        self.producer.client().fatal_error().map(|(code, text)| format!("{code}: {text}"))
    }
}

/// Makes missing topics on a thread of its own, again and again until a broker answers.
pub struct Topics {
    /// Producing may begin.
    ready: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Topics {
    /// Starts; with `create_topics = false` it is ready at once.
    ///
    /// # Errors
    /// The settings are refused.
    pub fn start(config: &KafkaConfig) -> Result<Self, SinkError> {
        let topics = Self { ready: Arc::new(AtomicBool::new(!config.create_topics)), stop: Arc::default() };
        if config.create_topics {
            let admin: AdminClient<DefaultClientContext> =
                settings(config)?.create().map_err(|error| refused(config, &error))?;
            let (ready, stop, config) = (topics.ready.clone(), topics.stop.clone(), config.clone());
            let create = move || {
                while !stop.load(Ordering::Relaxed) {
                    if create_topics(&admin, &config) {
                        break;
                    }
                    thread::sleep(Duration::from_millis(500));
                }
                ready.store(true, Ordering::Release);
            };
            thread::Builder::new().name("kafka-topics".to_owned()).spawn(create).map_err(|source| SinkError::Io {
                action: "start the thread that makes topics for",
                path: "kafka".to_owned(),
                source,
            })?;
        }
        Ok(topics)
    }

    /// Whether producing may begin.
    pub fn are_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// False: no broker answered. A broker that does not let us make topics is an answer: they may be there.
fn create_topics(admin: &AdminClient<DefaultClientContext>, config: &KafkaConfig) -> bool {
    let names = Kind::ALL.map(|kind| config.topic(kind));
    let topics =
        names.iter().map(|name| NewTopic::new(name, config.partitions, TopicReplication::Fixed(config.replication)));
    let topics: Vec<_> = topics.collect();
    let options = AdminOptions::new()
        .request_timeout(Some(Duration::from_secs(5)))
        .operation_timeout(Some(Duration::from_secs(5)));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return false };
    match runtime.block_on(admin.create_topics(&topics, &options)) {
        Ok(results) => {
            for (topic, code) in results.into_iter().filter_map(Result::err) {
                if code != RDKafkaErrorCode::TopicAlreadyExists {
                    tracing::warn!(topic, %code, "the broker did not make the topic; make it, or set create_topics = false");
                }
            }
            true
        }
        Err(error) => {
            tracing::debug!(%error, "no broker answered yet");
            false
        }
    }
}

fn refused(config: &KafkaConfig, error: &KafkaError) -> SinkError {
    SinkError::Client { brokers: config.brokers.join(","), detail: error.to_string() }
}

fn settings(config: &KafkaConfig) -> Result<ClientConfig, SinkError> {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", config.brokers.join(","))
        .set("client.id", "stockade")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.codec", "zstd")
        .set("linger.ms", config.linger_ms.to_string())
        // What JVM clients use: their consumers may join our topics with their own.
        .set("partitioner", "murmur2_random")
        // Messages wait for the broker as long as it takes: what is in memory is bounded by us.
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.kbytes", "32768")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true")
        .set("security.protocol", config.protocol.name());
    if let Some(path) = &config.ca_file {
        settings.set("ssl.ca.location", path.display().to_string());
    }
    if matches!(config.protocol, Protocol::SaslSsl) {
        settings.set("sasl.mechanism", &config.mechanism).set("sasl.username", &config.username);
        if let Some(path) = &config.password_file {
            let secret = std::fs::read_to_string(path).map_err(|source| SinkError::Io {
                action: "read the password in",
                path: path.display().to_string(),
                source,
            })?;
            settings.set("sasl.password", secret.trim_end_matches(['\r', '\n']));
        }
    }
    Ok(settings)
}
