//! Plain numbers of an event, as an outlier detector without a baseline would be given them.

use collector_common::flow::Direction;
use model::event::{Body, Event};

/// How many.
pub const RAW: usize = 33;
/// Their names.
pub const RAW_NAMES: [&str; RAW] = [
    "is_exec",
    "is_window",
    "is_flow",
    "is_file",
    "calls",
    "distinct_calls",
    "class_file",
    "class_transfer",
    "class_network",
    "class_memory",
    "class_process",
    "class_privilege",
    "class_wait",
    "class_other",
    "errors",
    "permission_errors",
    "log_read",
    "log_write",
    "novel_trigrams",
    "log_tx",
    "log_rx",
    "log_tx_packets",
    "log_rx_packets",
    "outgoing",
    "remote_port",
    "local_port",
    "tcp",
    "log_arguments",
    "exec_bits",
    "is_root",
    "depth",
    "file_mode",
    "log_touched",
];

/// The numbers; what a kind of event does not have is 0.
pub fn raw(event: &Event) -> [f64; RAW] {
    let mut all = [0.0; RAW];
    let log = |number: u64| (number as f64 + 1.0).log2();
    match &event.body {
        Body::Exec(exec) => {
            all[0] = 1.0;
            all[27] = log(u64::from(exec.argv_full));
            all[28] = f64::from(exec.bits.count_ones());
        }
        Body::Window(window) => {
            all[1] = 1.0;
            let mut calls = window.trace.clone();
            calls.sort_unstable();
            calls.dedup();
            (all[4], all[5]) = (window.trace.len() as f64, calls.len() as f64);
            for (slot, count) in all[6..14].iter_mut().zip(window.class) {
                *slot = f64::from(count);
            }
            (all[14], all[15]) = (f64::from(window.errors), f64::from(window.permission_errors));
            (all[16], all[17]) = (log(window.read_bytes), log(window.write_bytes));
            all[18] = window.novel_trigrams.len() as f64;
        }
        Body::Flow(flow) => {
            all[2] = 1.0;
            (all[19], all[20]) = (log(flow.tx_bytes), log(flow.rx_bytes));
            (all[21], all[22]) = (log(flow.tx_packets), log(flow.rx_packets));
            all[23] = f64::from(u8::from(flow.direction == Direction::Out as u8));
            // The other side's port of a server's client, and our own of a client, are drawn by lot.
            all[if flow.direction == Direction::Out as u8 { 24 } else { 25 }] =
                f64::from(if flow.direction == Direction::Out as u8 { flow.remote.port() } else { flow.local.port() });
            all[26] = f64::from(u8::from(flow.protocol == 6));
        }
        Body::File(file) => {
            all[3] = 1.0;
            all[31] = f64::from(file.mode);
            all[32] = log(file.touched.iter().map(|count| u64::from(*count)).sum());
        }
        Body::Fork(_) | Body::Exit(_) | Body::Deny(_) => (),
    }
    all[29] = f64::from(u8::from(event.process.uid == 0));
    all[30] = event.process.ancestors.len() as f64;
    all
}
