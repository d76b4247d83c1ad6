//! A message as a Kafka record: id, key and JSON.

use std::borrow::Cow;

use model::event::{Body, Event};

use super::KafkaConfig;
use crate::sinks::frame::Frame;
use crate::sinks::ndjson::{Encoding, native, safe_text};
use crate::sinks::{Change, Message, ocsf};

/// Encodes; none for a change that the encoding has no event for.
///
/// # Errors
/// It cannot be serialised.
pub fn encode(config: &KafkaConfig, host: &str, message: &Message) -> Result<Option<Frame>, serde_json::Error> {
    let value = match (config.encoding, message) {
        (Encoding::Ocsf, Message::Finding(change, finding)) => ocsf::finding(*change, finding),
        (Encoding::Ocsf, Message::Decision(change, decision)) => match ocsf::decision(*change, decision, host) {
            Some(value) => value,
            None => return Ok(None),
        },
        (_, message) => native(host, &on_request(config, message))?,
    };
    let key = format!("{host}|{}", workload(message));
    Ok(Some(Frame { id: id(host, message), key, value: safe_text(&value).into_bytes() }))
}

/// The raw trace of a window goes along only on request: it is most of the bytes.
fn on_request<'a>(config: &KafkaConfig, message: &'a Message) -> Cow<'a, Message> {
    if let (false, Message::Event(event)) = (config.raw_trace, message)
        && let Body::Window(window) = &event.body
    {
        let window = model::event::Window { trace: Vec::new(), ..window.clone() };
        let event = Event { at: event.at, process: event.process.clone(), body: Body::Window(window) };
        return Cow::Owned(Message::Event(event.into()));
    }
    Cow::Borrowed(message)
}

fn workload(message: &Message) -> &str {
    match message {
        Message::Finding(_, finding) => &finding.workload,
        Message::Decision(_, decision) => decision.workload.as_deref().unwrap_or_default(),
        Message::Event(event) => &event.process.workload,
        Message::Health(_) => "",
    }
}

/// Depends on nothing but the message: sent again, also by another process, it is the same.
fn id(host: &str, message: &Message) -> String {
    let change = |change: &Change| match change {
        Change::Created => "created",
        Change::Updated => "updated",
        Change::Closed => "closed",
    };
    match message {
        Message::Finding(what, finding) => {
            format!("{}.{}.{}.{}", finding.id, change(what), finding.count, finding.updated.unix_ns)
        }
        Message::Decision(what, decision) => {
            format!("{host}.{}.{}.{}.{}", decision.short(), decision.created.unix_ns, change(what), decision.hits)
        }
        Message::Health(report) => format!("{host}.health.{}", report.at.unix_ns),
        Message::Event(event) => match &event.body {
            Body::Window(window) => {
                format!("{host}.w.{:x}.{}.{}", event.process.cookie, window.tid, window.start_boot_ns)
            }
            Body::Flow(flow) => format!("{host}.f.{:x}.{}.{}", flow.socket, flow.last_ns, event.at.unix_ns),
            _ => format!("{host}.e.{:x}.{}", event.process.cookie, event.at.unix_ns),
        },
    }
}
