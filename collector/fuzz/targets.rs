//! Every parser of outside bytes, as a function of bytes that must not panic, hang or keep more than it was given.
//!
//! The fuzzer and the ordinary tests call the same functions.

use std::path::Path;

use collector::api::protocol::Request;
use collector::config::Config;
use collector::decode::{Record, decode, directory, trace};
use collector::enrich::cgroup::Membership;
use collector::enrich::identity::identify;
use collector::loader::btf::Types;
use collector::replay::{Frame, Recording};

/// Records as a ring gives them.
pub fn records(bytes: &[u8]) {
    match decode(bytes) {
        Ok(Record::Window(window)) => assert!(trace(&window).count() <= 128),
        Ok(Record::File(file)) => assert!(directory(&file).len() <= 3 * 232 + 8),
        _ => (),
    }
}

/// A recording, and the records in it.
pub fn recording(bytes: &[u8]) {
    let Ok(recording) = Recording::open(bytes) else { return };
    for frame in recording {
        match frame {
            Ok(Frame::Record(bytes)) => records(&bytes),
            Ok(Frame::Note(_)) => (),
            Err(_) => return,
        }
    }
}

/// The kernel's types.
pub fn kernel_types(bytes: &[u8]) {
    if let Ok(types) = Types::new(bytes) {
        let _ = types.offset_of("task_struct", "thread_info.flags");
    }
}

/// A model's snapshot.
pub fn snapshot(bytes: &[u8]) {
    let _ = model::Model::restore(bytes);
}

/// A configuration.
pub fn configuration(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Config::parse(text, Path::new("fuzz.toml"));
    }
}

/// An entry of the history's log; what can be read says the same when it is written and read again.
pub fn told(bytes: &[u8]) {
    if let Ok(said) = model::purge::Said::from_bytes(bytes) {
        let written = said.to_bytes().expect("what was read can be written");
        assert_eq!(model::purge::Said::from_bytes(&written).expect("what was written can be read"), said);
    }
}

/// A request on the socket.
pub fn request(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Request>(bytes);
}

/// What `/proc/PID/cgroup` says, and the workload that follows from it.
pub fn cgroups(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(path) = Membership::parse(text).telling()
    {
        let _ = identify(path, |_| None);
    }
}

/// All of them, by name.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("records", records),
    ("recording", recording),
    ("kernel_types", kernel_types),
    ("snapshot", snapshot),
    ("configuration", configuration),
    ("told", told),
    ("request", request),
    ("cgroups", cgroups),
];
