//! Where findings, decisions, windows and flows go when the agent is done with them.
//!
//! A [`Fanout`] gives every sink a thread and bounded queues of its own, one a [`Kind`]. Sending never waits: what does not
//! fit is counted. A sink that hangs delays nobody, and a finding never stands behind windows.

mod fanout;
pub mod frame;
pub mod kafka;
pub mod ndjson;
pub mod ocsf;
pub mod spool;
#[cfg(test)]
mod tests_support;

use std::sync::Arc;
use std::time::Duration;

use model::event::{Body, Event, Time};
use serde::{Deserialize, Serialize};

pub use fanout::{Fanout, FanoutError, SinkStatus, State};

use crate::decision::Decision;
use crate::finding::Finding;

/// What happened to a finding or a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Created,
    /// It has more evidence, more hits.
    Updated,
    /// It ended: closed, lapsed, released, tripped.
    Closed,
}

/// How the agent is, from time to time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthReport {
    /// When.
    pub at: Time,
    /// Whatever `status` says, as JSON.
    pub status: serde_json::Value,
}

/// One thing to tell.
#[derive(Clone, Debug)]
pub enum Message {
    /// A decision changed.
    Decision(Change, Arc<Decision>),
    /// A finding changed.
    Finding(Change, Arc<Finding>),
    /// The agent's own state.
    Health(Arc<HealthReport>),
    /// A window or a flow; other events are for nobody outside and are skipped.
    Event(Arc<Event>),
}

/// What kind of message, the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Decisions.
    Decision,
    /// Findings.
    Finding,
    /// Health.
    Health,
    /// Flows.
    Flow,
    /// Windows.
    Window,
}

/// Number of kinds.
pub const KINDS: usize = 5;

impl Kind {
    /// All, the most important first.
    pub const ALL: [Kind; KINDS] = [Kind::Decision, Kind::Finding, Kind::Health, Kind::Flow, Kind::Window];

    /// Plural name, as in topics and directories.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Decision => "decisions",
            Kind::Finding => "findings",
            Kind::Health => "health",
            Kind::Flow => "flows",
            Kind::Window => "windows",
        }
    }

    /// Place in [`Kind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether it has to survive a power cut.
    pub fn is_durable(self) -> bool {
        matches!(self, Kind::Decision | Kind::Finding)
    }
}

/// A count for each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerKind(pub [u64; KINDS]);

impl PerKind {
    /// Adds.
    pub fn add(&mut self, kind: Kind, count: u64) {
        self.0[kind.index()] += count;
    }

    /// One count.
    pub fn get(&self, kind: Kind) -> u64 {
        self.0[kind.index()]
    }

    /// Sum over the kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn plus(&self, other: &PerKind) -> PerKind {
        PerKind(std::array::from_fn(|index| self.0[index] + other.0[index]))
    }
}

impl Message {
    /// Its kind; none for an event that no sink takes.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Message::Decision(..) => Some(Kind::Decision),
            Message::Finding(..) => Some(Kind::Finding),
            Message::Health(..) => Some(Kind::Health),
            Message::Event(event) => match event.body {
                Body::Flow(_) => Some(Kind::Flow),
                Body::Window(_) => Some(Kind::Window),
                Body::Fork(_) | Body::Exec(_) | Body::Exit(_) | Body::Deny(_) | Body::File(_) => None,
            },
        }
    }
}

/// Why a sink could not do it.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Reading or writing failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The message cannot be encoded.
    #[error("encode a message: {0}")]
    Encode(#[from] serde_json::Error),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] spool::SpoolError),
    /// The Kafka client refused its settings.
    #[error("make the Kafka client for {brokers}: {detail}; check [[sinks]] type = \"kafka\"")]
    Client {
        /// Which brokers.
        brokers: String,
        /// What the client says.
        detail: String,
    },
}

/// What a sink says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that arrived (for Kafka: acknowledged by the broker).
    pub sent: PerKind,
    /// Messages that the sink itself had to drop.
    pub dropped: PerKind,
    /// Bytes on disk that wait.
    pub spooled_bytes: u64,
    /// Messages in memory that wait for an acknowledgement.
    pub in_flight: u64,
    /// Set while messages cannot be handed on: why.
    pub trouble: Option<String>,
}

/// One receiver. Runs on a thread of its own, so it may block.
pub trait Sink: Send {
    /// Kinds that it wants; others are not queued for it.
    fn wants(&self, kind: Kind) -> bool;

    /// Takes a message.
    ///
    /// # Errors
    /// The message is lost for this sink; it is counted.
    fn deliver(&mut self, kind: Kind, message: &Message) -> Result<(), SinkError>;

    /// Called after each batch and at least every 50 ms: flush buffers, look after acknowledgements.
    ///
    /// # Errors
    /// Shown in the status; the sink goes on.
    fn tick(&mut self) -> Result<(), SinkError>;

    /// The last call: what can be handed on within `patience` is, the rest is kept if the sink can keep it.
    ///
    /// # Errors
    /// Shown in the log.
    fn close(&mut self, patience: Duration) -> Result<(), SinkError>;

    /// How it is.
    fn report(&self) -> Report;
}

/// Makes the sink's parts on the sink's own thread.
pub type Opener = Box<dyn FnOnce() -> Result<Box<dyn Sink>, SinkError> + Send>;

/// One `[[sinks]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum SinkConfig {
    /// Findings and decisions, one JSON object a line.
    Ndjson(ndjson::LinesConfig),
    /// Findings and decisions as OCSF 1.8.0 events, one a line.
    Ocsf(ndjson::LinesConfig),
    /// Everything to Kafka topics.
    Kafka(kafka::KafkaConfig),
}

impl SinkConfig {
    /// Name in the status.
    pub fn name(&self) -> String {
        match self {
            SinkConfig::Ndjson(config) => format!("ndjson:{}", config.target()),
            SinkConfig::Ocsf(config) => format!("ocsf:{}", config.target()),
            SinkConfig::Kafka(config) => format!("kafka:{}", config.brokers.join(",")),
        }
    }

    /// What makes the sink. `host` is this host's name, as findings say it.
    pub fn opener(self, host: Arc<str>) -> Opener {
        Box::new(move || {
            Ok(match self {
                SinkConfig::Ndjson(config) => {
                    Box::new(ndjson::Lines::open(config, ndjson::Encoding::Native, host)?) as Box<dyn Sink>
                }
                SinkConfig::Ocsf(config) => Box::new(ndjson::Lines::open(config, ndjson::Encoding::Ocsf, host)?),
                SinkConfig::Kafka(config) => Box::new(kafka::Kafka::open(config, host)?),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        sinks: Vec<SinkConfig>,
    }

    fn read(text: &str) -> Result<Vec<SinkConfig>, String> {
        toml::from_str::<File>(text).map(|file| file.sinks).map_err(|error| error.to_string())
    }

    #[test]
    fn sinks_are_configured_by_type() {
        let sinks = read(
            "[[sinks]]\ntype = \"ndjson\"\npath = \"/var/log/stockade/findings.json\"\n\
             [[sinks]]\ntype = \"ocsf\"\npath = \"-\"\n\
             [[sinks]]\ntype = \"kafka\"\nbrokers = [\"a:9092\", \"b:9092\"]\nspool = \"/var/lib/stockade/spool\"\nprotocol = \"sasl-ssl\"\n",
        )
        .unwrap();
        let names: Vec<_> = sinks.iter().map(SinkConfig::name).collect();
        assert_eq!(names, ["ndjson:/var/log/stockade/findings.json", "ocsf:stdout", "kafka:a:9092,b:9092"]);
        let SinkConfig::Kafka(kafka) = &sinks[2] else { panic!("{sinks:?}") };
        assert_eq!((kafka.mechanism.as_str(), kafka.raw_trace, kafka.create_topics), ("SCRAM-SHA-512", false, false));
        assert_eq!(kafka.topic(Kind::Finding), "stockade.findings.v1");
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        assert!(read("[[sinks]]\ntype = \"kafak\"\n").unwrap_err().contains("kafak"));
        let typo = "[[sinks]]\ntype = \"kafka\"\nbrokers = []\nspool = \"s\"\nack = 1\n";
        assert!(read(typo).unwrap_err().contains("ack"));
    }

    #[test]
    fn only_windows_and_flows_are_streamed_of_all_events() {
        let mut event = model::event::Event::clone(&tests_support::window("unit:a", 1));
        assert_eq!(Message::Event(event.clone().into()).kind(), Some(Kind::Window));
        event.body = Body::Exit(model::event::Exit { code: 0 });
        assert_eq!(Message::Event(event.into()).kind(), None);
    }
}
