//! Unlearning an incident: what a model was told is told again to an earlier state of it, without what the incident did.
//!
//! Taking back what an incident taught would not do: a row that was admitted after it holds bits that were computed from
//! tables which the incident had changed. Telling everything else again gives the very bytes of a model that never saw it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Body, Deny, Event, Exec, Exit, File, Flow, Fork, Process, Time, Window};
use crate::{EpisodeView, Model, Standing, Verdict};

/// Processes that are followed as members of one incident; those of further ones are told apart by their ancestors alone.
const MAX_MEMBERS: usize = 65_536;

/// One thing that a model is told. What it knows depends on these and their order, and on nothing else.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Something happened, in a workload that was judged so.
    Event(Event, Standing),
    /// Time passed.
    Time(Time),
    /// A baseline was frozen.
    Freeze(Arc<str>, Time),
    /// A workload went back to learning.
    Thaw(Arc<str>),
}

/// What a model answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// To an event that is evidence.
    pub verdict: Option<Verdict>,
    /// To time: episodes that closed.
    pub closed: Vec<EpisodeView>,
}

impl Model {
    /// Takes one thing after another. The same things in the same order give the same bytes.
    pub fn hear(&mut self, said: &Said) -> Heard {
        let mut heard = Heard::default();
        match said {
            Said::Event(event, standing) => heard.verdict = self.observe(event, *standing),
            Said::Time(at) => heard.closed = self.tick(*at),
            Said::Freeze(workload, at) => self.freeze(workload, *at),
            Said::Thaw(workload) => self.thaw(workload),
        }
        heard
    }
}

/// What a process subtree did between two times; UTC counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incident {
    /// Cookie of the process at its root.
    pub anchor: u64,
    /// From when on.
    pub since: Time,
    /// Until when: what its members do afterwards teaches again, as far as the learning rules let it.
    pub until: Time,
}

/// Leaves incidents out while everything else is told again.
#[derive(Clone, Debug)]
pub struct Purge {
    incidents: Vec<(Incident, BTreeSet<u64>)>,
}

impl Purge {
    /// Of these incidents.
    pub fn of(incidents: impl IntoIterator<Item = Incident>) -> Self {
        let with_root = |incident: Incident| (incident, BTreeSet::from([incident.anchor]));
        Self { incidents: incidents.into_iter().map(with_root).collect() }
    }

    /// Whether an incident did this. Ask for every event, in order: an event names sixteen ancestors, so members are
    /// followed from generation to generation.
    pub fn leaves_out(&mut self, said: &Said) -> bool {
        let Said::Event(event, _) = said else { return false };
        let mut any = false;
        for (incident, members) in &mut self.incidents {
            let process = &event.process;
            let is_member =
                members.contains(&process.cookie) || process.ancestors.iter().any(|one| members.contains(one));
            if !is_member {
                continue;
            }
            if members.len() < MAX_MEMBERS {
                members.insert(process.cookie);
            }
            any |= (incident.since.unix_ns..=incident.until.unix_ns).contains(&event.at.unix_ns);
        }
        any
    }
}

impl Said {
    /// As bytes, for a log of this version.
    ///
    /// # Errors
    ///
    /// When it cannot be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(&match self {
            Self::Event(event, standing) => return Self::event_to_bytes(event, *standing),
            Self::Time(at) => Wire::Time(*at),
            Self::Freeze(workload, at) => Wire::Freeze(workload.clone(), *at),
            Self::Thaw(workload) => Wire::Thaw(workload.clone()),
        })
    }

    /// The bytes of [`Said::Event`].
    ///
    /// # Errors
    ///
    /// When it cannot be encoded.
    pub fn event_to_bytes(event: &Event, standing: Standing) -> Result<Vec<u8>, postcard::Error> {
        let Event { at, process, body } = event;
        postcard::to_stdvec(&Wire::Event(
            *at,
            Cow::Borrowed(process),
            Box::new(body.into()),
            standing == Standing::Ready,
        ))
    }

    /// From bytes.
    ///
    /// # Errors
    ///
    /// When they are not what [`Said::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        Ok(match postcard::from_bytes(bytes)? {
            Wire::Event(at, process, body, ready) => {
                let standing = if ready { Standing::Ready } else { Standing::Learning };
                Self::Event(Event { at, process: Arc::new(process.into_owned()), body: (*body).into() }, standing)
            }
            Wire::Time(at) => Self::Time(at),
            Wire::Freeze(workload, at) => Self::Freeze(workload, at),
            Wire::Thaw(workload) => Self::Thaw(workload),
        })
    }
}

/// [`Said`] without names and tags: an event's own form is made for JSON.
#[derive(Serialize, Deserialize)]
enum Wire<'a> {
    Event(Time, Cow<'a, Process>, Box<WireBody<'a>>, bool),
    Time(Time),
    Freeze(Arc<str>, Time),
    Thaw(Arc<str>),
}

#[derive(Serialize, Deserialize)]
enum WireBody<'a> {
    Fork(Cow<'a, Fork>),
    Exec(Cow<'a, Exec>),
    Exit(Cow<'a, Exit>),
    Window(Cow<'a, Window>),
    Flow(Cow<'a, Flow>),
    Deny(Cow<'a, Deny>),
    File(Cow<'a, File>),
}

impl<'a> From<&'a Body> for WireBody<'a> {
    fn from(body: &'a Body) -> Self {
        match body {
            Body::Fork(fork) => Self::Fork(Cow::Borrowed(fork)),
            Body::Exec(exec) => Self::Exec(Cow::Borrowed(exec)),
            Body::Exit(exit) => Self::Exit(Cow::Borrowed(exit)),
            Body::Window(window) => Self::Window(Cow::Borrowed(window)),
            Body::Flow(flow) => Self::Flow(Cow::Borrowed(flow)),
            Body::Deny(deny) => Self::Deny(Cow::Borrowed(deny)),
            Body::File(file) => Self::File(Cow::Borrowed(file)),
        }
    }
}

impl From<WireBody<'_>> for Body {
    fn from(body: WireBody<'_>) -> Self {
        match body {
            WireBody::Fork(fork) => Self::Fork(fork.into_owned()),
            WireBody::Exec(exec) => Self::Exec(exec.into_owned()),
            WireBody::Exit(exit) => Self::Exit(exit.into_owned()),
            WireBody::Window(window) => Self::Window(window.into_owned()),
            WireBody::Flow(flow) => Self::Flow(flow.into_owned()),
            WireBody::Deny(deny) => Self::Deny(deny.into_owned()),
            WireBody::File(file) => Self::File(file.into_owned()),
        }
    }
}
