//! Kafka: topics `stockade.{decisions,findings,health,flows,windows}.v1`, JSON values, key `host|workload`.
//!
//! Decisions and findings are always in the spool first and leave it with the broker's acknowledgement. The other kinds are
//! held in memory, at most [`MEMORY`] bytes each; when that is full, because the broker is away or slow, they go to the spool
//! behind it. What is in the spool is sent before newer messages of its kind. At an orderly end everything that is not
//! acknowledged is in the spool; a crash costs no decision and no finding, and at most [`MEMORY`] of each other kind. A message that
//! was sent and whose acknowledgement was lost is sent again with the same `stockade-id` header.

#[cfg_attr(not(feature = "kafka"), path = "absent.rs")]
mod client;
mod message;
mod outcome;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::client::{Client, Topics};
use self::outcome::{Handed, Outcome};
use super::frame::Frame;
use super::ndjson::Encoding;
use super::spool::{Appended, Spool, Ticket};
use super::{KINDS, Kind, Message, PerKind, Report, Sink, SinkError};

/// Bytes of one kind that may wait in memory for acknowledgements.
pub const MEMORY: usize = 4 << 20;

/// Pause after a message could not be delivered.
const RETRY: Duration = Duration::from_secs(1);

/// How the brokers are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// In the clear.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// TLS and a name with a password.
    SaslSsl,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Plaintext => "plaintext",
            Protocol::Ssl => "ssl",
            Protocol::SaslSsl => "sasl_ssl",
        }
    }
}

/// `[[sinks]] type = "kafka"`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, at least one.
    pub brokers: Vec<String>,
    /// Directory of the spool; only this agent may use it.
    pub spool: PathBuf,
    /// Most bytes in the spool.
    #[serde(default = "default_spool_bytes")]
    pub spool_bytes: u64,
    /// First part of the topics' names.
    #[serde(default = "default_prefix")]
    pub topic_prefix: String,
    /// Make topics that are missing.
    #[serde(default)]
    pub create_topics: bool,
    /// Partitions of topics made here.
    #[serde(default = "default_partitions")]
    pub partitions: i32,
    /// Replicas of topics made here; −1 = what the brokers think best.
    #[serde(default = "default_replication")]
    pub replication: i32,
    /// Kinds that are sent.
    #[serde(default = "default_kinds")]
    pub kinds: Vec<Kind>,
    /// Findings and decisions natively or as OCSF.
    #[serde(default)]
    pub encoding: Encoding,
    /// Send the raw trace inside windows too.
    #[serde(default)]
    pub raw_trace: bool,
    /// Milliseconds that the client waits to fill a batch.
    #[serde(default = "default_linger")]
    pub linger_ms: u32,
    /// Protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// For `sasl-ssl`.
    #[serde(default = "default_mechanism")]
    pub mechanism: String,
    /// For `sasl-ssl`.
    #[serde(default)]
    pub username: String,
    /// File with the password, for `sasl-ssl`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Certificates that are trusted; none = the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn default_spool_bytes() -> u64 {
    256 << 20
}

fn default_prefix() -> String {
    "stockade".to_owned()
}

fn default_partitions() -> i32 {
    6
}

fn default_replication() -> i32 {
    -1
}

fn default_kinds() -> Vec<Kind> {
    Kind::ALL.to_vec()
}

fn default_linger() -> u32 {
    20
}

fn default_mechanism() -> String {
    "SCRAM-SHA-512".to_owned()
}

impl KafkaConfig {
    /// Topic of a kind.
    pub fn topic(&self, kind: Kind) -> String {
        format!("{}.{}.v1", self.topic_prefix, kind.name())
    }
}

/// A message that is not acknowledged. With a ticket it is in the spool too.
struct Pending {
    ticket: Option<Ticket>,
    frame: Frame,
    failed: bool,
}

/// Messages of one kind, in order: those that the client has, those that it has not, those in the spool.
struct Lane {
    kind: Kind,
    topic: String,
    sent: BTreeMap<u64, Pending>,
    unsent: VecDeque<(u64, Pending)>,
    bytes: usize,
    /// Some delivery failed: nothing more is sent before all of `sent` is reported and this moment has come.
    retry_at: Option<Instant>,
    trouble: Option<String>,
}

/// The sink.
pub struct Kafka {
    config: KafkaConfig,
    host: Arc<str>,
    client: Client,
    topics: Topics,
    spool: Spool,
    lanes: [Lane; KINDS],
    next_number: u64,
    acknowledged: PerKind,
    dropped: PerKind,
}

impl Kafka {
    /// Opens the spool and makes a client. No broker needs to be there.
    ///
    /// # Errors
    /// The spool cannot be opened, a secret cannot be read, or the client refuses the settings.
    pub fn open(config: KafkaConfig, host: Arc<str>) -> Result<Self, SinkError> {
        let lanes = Kind::ALL.map(|kind| Lane {
            kind,
            topic: config.topic(kind),
            sent: BTreeMap::new(),
            unsent: VecDeque::new(),
            bytes: 0,
            retry_at: None,
            trouble: None,
        });
        Ok(Self {
            spool: Spool::open(&config.spool, config.spool_bytes)?,
            client: Client::new(&config)?,
            topics: Topics::start(&config)?,
            config,
            host,
            lanes,
            next_number: 0,
            acknowledged: PerKind::default(),
            dropped: PerKind::default(),
        })
    }

    fn keep(&mut self, kind: Kind, frame: Frame) -> Result<(), SinkError> {
        let has_room = self.lanes[kind.index()].bytes < MEMORY;
        if !kind.is_durable() && has_room && self.spool.is_empty(kind) {
            self.hold(kind, None, frame);
            return Ok(());
        }
        match self.spool.append(kind, &frame) {
            // What the spool drops it counts.
            Ok(Appended::Kept | Appended::Dropped) => Ok(()),
            // A full disk must not stop what the broker would take.
            Err(error) if has_room => {
                self.hold(kind, None, frame);
                Err(error.into())
            }
            Err(error) => {
                self.dropped.add(kind, 1);
                Err(error.into())
            }
        }
    }

    fn hold(&mut self, kind: Kind, ticket: Option<Ticket>, frame: Frame) {
        let lane = &mut self.lanes[kind.index()];
        lane.bytes += frame.stored_len();
        lane.unsent.push_back((self.next_number, Pending { ticket, frame, failed: false }));
        self.next_number += 1;
    }

    /// Brings messages from the spool to memory and from there to the client, the most important first.
    fn pump(&mut self) -> Result<(), SinkError> {
        if !self.topics.are_ready() {
            return Ok(());
        }
        for kind in Kind::ALL {
            while self.lanes[kind.index()].bytes < MEMORY / 4 && self.spool.has_unread(kind) {
                let taken = self.spool.take(kind, MEMORY / 8)?;
                for (ticket, frame) in taken {
                    self.hold(kind, Some(ticket), frame);
                }
            }
            let refused = self.lanes[kind.index()].send(&self.client);
            for ticket in refused {
                self.dropped.add(kind, 1);
                ticket.into_iter().for_each(|ticket| self.spool.acknowledge(ticket));
            }
        }
        Ok(())
    }

    fn hear(&mut self, wait: Duration) {
        for (number, outcome) in self.client.poll(wait) {
            let Some(lane) = self.lanes.iter_mut().find(|lane| lane.sent.contains_key(&number)) else { continue };
            let (kind, ticket) = (lane.kind, lane.hear(number, &outcome));
            match outcome {
                Outcome::Acknowledged => self.acknowledged.add(kind, 1),
                Outcome::Refused(_) => self.dropped.add(kind, 1),
                Outcome::Failed(_) => {}
            }
            if let Some(ticket) = ticket {
                self.spool.acknowledge(ticket);
            }
        }
    }

    /// A client that gave up is replaced; what it had is sent again.
    fn replace_fatal(&mut self) -> Result<(), SinkError> {
        let Some(reason) = self.client.fatal() else { return Ok(()) };
        tracing::warn!(reason, "the Kafka client cannot go on: a new one takes over");
        self.client = Client::new(&self.config)?;
        for lane in &mut self.lanes {
            lane.take_back();
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let unread = Kind::ALL.into_iter().any(|kind| self.spool.has_unread(kind));
        !unread && self.lanes.iter().all(|lane| lane.sent.is_empty() && lane.unsent.is_empty())
    }
}

impl Lane {
    /// Hands over what it can; gives what will never be taken.
    fn send(&mut self, client: &Client) -> Vec<Option<Ticket>> {
        let mut refused = Vec::new();
        if let Some(retry_at) = self.retry_at {
            // A failed message goes before the newer ones: wait until the fate of all is known.
            if Instant::now() < retry_at || self.sent.values().any(|pending| !pending.failed) {
                return refused;
            }
            self.take_back();
        }
        while let Some((number, pending)) = self.unsent.pop_front() {
            match client.send(&self.topic, number, &pending.frame) {
                Handed::Queued => {
                    self.sent.insert(number, pending);
                }
                Handed::Full => {
                    self.unsent.push_front((number, pending));
                    break;
                }
                Handed::Refused(reason) => {
                    self.bytes -= pending.frame.stored_len();
                    self.trouble = Some(reason);
                    refused.push(pending.ticket);
                }
                Handed::Failed(reason) => {
                    self.unsent.push_front((number, pending));
                    self.trouble = Some(reason);
                    self.retry_at = Some(Instant::now() + RETRY);
                    break;
                }
            }
        }
        refused
    }

    /// Gives the ticket of a message that is settled.
    fn hear(&mut self, number: u64, outcome: &Outcome) -> Option<Ticket> {
        match outcome {
            Outcome::Acknowledged => self.trouble = None,
            Outcome::Refused(reason) => self.trouble = Some(reason.clone()),
            Outcome::Failed(reason) => {
                self.trouble = Some(reason.clone());
                self.retry_at = Some(Instant::now() + RETRY);
                if let Some(pending) = self.sent.get_mut(&number) {
                    pending.failed = true;
                }
                return None;
            }
        }
        let pending = self.sent.remove(&number)?;
        self.bytes -= pending.frame.stored_len();
        pending.ticket
    }

    /// Everything is to be sent again, in its old order.
    fn take_back(&mut self) {
        self.retry_at = None;
        while let Some((number, pending)) = self.sent.pop_last() {
            self.unsent.push_front((number, Pending { failed: false, ..pending }));
        }
    }
}

impl Sink for Kafka {
    fn wants(&self, kind: Kind) -> bool {
        self.config.kinds.contains(&kind)
    }

    fn deliver(&mut self, kind: Kind, message: &Message) -> Result<(), SinkError> {
        match message::encode(&self.config, &self.host, message)? {
            Some(frame) => self.keep(kind, frame),
            None => Ok(()),
        }
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        self.hear(Duration::ZERO);
        self.replace_fatal()?;
        // To the disk before the broker can acknowledge it: what was acknowledged elsewhere is here too.
        self.spool.sync()?;
        self.pump()
    }

    fn close(&mut self, patience: Duration) -> Result<(), SinkError> {
        let deadline = Instant::now() + patience;
        while !self.is_done() && Instant::now() < deadline {
            self.tick()?;
            self.hear(Duration::from_millis(5));
        }
        for lane in &mut self.lanes {
            lane.take_back();
            // Those that are only here are older than all that is in the spool.
            let on_disk = |pending: &Pending| pending.ticket.is_some_and(|ticket| self.spool.holds(ticket));
            let only_here = lane.unsent.drain(..).filter(|(_, pending)| !on_disk(pending));
            let frames: Vec<Frame> = only_here.map(|(_, pending)| pending.frame).collect();
            self.spool.give_back(lane.kind);
            self.spool.put_first(lane.kind, &frames)?;
            lane.bytes = 0;
        }
        Ok(self.spool.sync()?)
    }

    fn report(&self) -> Report {
        let totals = self.spool.totals();
        let in_flight = self.lanes.iter().map(|lane| (lane.sent.len() + lane.unsent.len()) as u64).sum();
        let mut dropped = self.dropped;
        Kind::ALL.into_iter().for_each(|kind| dropped.add(kind, totals.dropped.get(kind)));
        let damaged = (totals.damaged_bytes > 0)
            .then(|| format!("{} bytes of the spool were damaged and skipped", totals.damaged_bytes));
        let waiting = if self.is_done() {
            None
        } else {
            self.lanes.iter().find_map(|lane| lane.trouble.clone()).or(self.client.trouble())
        };
        Report {
            sent: self.acknowledged,
            dropped,
            spooled_bytes: totals.bytes,
            in_flight,
            trouble: waiting.or(damaged),
        }
    }
}
