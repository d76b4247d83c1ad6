//! `stockade status`

use model::HealthState;

use super::{Common, Exit, table};
use crate::api::protocol::{Request, Status};
use crate::cli::findings::name;

/// Runs the command.
///
/// # Errors
///
/// When there is no answer, or nothing can be printed.
pub fn run(common: &Common) -> anyhow::Result<Exit> {
    let status: Status = common.client()?.ask(Request::Status)?;
    table::one(common.output, &status, text)?;
    let unwell = status.health.state.is_fault() || !status.drifted.is_empty() || !status.sick.is_empty();
    let attention = unwell || !status.off.is_empty() || status.findings[1] + status.findings[2] > 0;
    Ok(if attention { Exit::Attention } else { Exit::Fine })
}

/// The status for people.
pub fn text(status: &Status) -> String {
    let [learning, monitoring, enforcing] = status.workloads;
    let [low, medium, high] = status.findings;
    let [denying, shadow] = status.decisions;
    let network = if status.can_deny_network { "network yes" } else { "network NO" };
    let rest = match (status.can_deny_programs, status.can_deny_files) {
        (true, true) => "programs and files yes",
        (true, false) => "programs yes, files no (`stockade doctor`)",
        _ => "programs and files no (`stockade doctor`)",
    };
    let clock =
        if status.clock_factor == 1.0 { String::new() } else { format!(", demo clock x{}", status.clock_factor) };
    let mut lines = vec![format!(
        "stockade {} {}, up {}{clock}, can deny: {network}, {rest}",
        status.version,
        status.host,
        table::span(status.up_seconds),
    )];
    lines.extend(status.ledger_text.trim_end().lines().map(|line| format!("           {line}")));
    lines.push(format!(
        "workloads  learning {learning}, monitoring {monitoring}, enforcing {enforcing}; model: {}",
        status.health
    ));
    if !status.health.state.may_deny() {
        let since = table::time(status.health.since.unix_ns);
        lines.push(format!("           no automatic denial since {since}"));
    }
    for (workload, state) in &status.sick {
        lines.push(format!("           no automatic denial in {workload}: its own forest is {state}"));
    }
    for (workload, drifted) in &status.drifted {
        let drifted = HealthState::Drifted { of: drifted.clone() };
        lines.push(format!("           no automatic denial in {workload}: {drifted}"));
    }
    let reach =
        status.unlearns_s.map_or_else(|| "off".to_owned(), |seconds| format!("reaches back {}", table::span(seconds)));
    lines.push(format!("unlearning {reach}"));
    let calibrated =
        if status.calibrated { "from this host's own episodes" } else { "shipped start value, not calibrated" };
    lines.push(format!("threshold  {:.1} bits, {calibrated}", status.threshold));
    if let Some((independent, (low, high))) = status.promise {
        lines.push(format!(
            "           promises {low:.1} to {high:.1} findings a day, by {independent:.1} independent episodes"
        ));
    }
    lines.push(format!("findings   open: high {high} medium {medium} low {low}; held back {}", status.held_back));
    let (count, last, longest) = status.latency_us;
    let latency =
        if count == 0 { String::new() } else { format!("; record to entry: last {last} µs, longest {longest} µs") };
    lines.push(format!("decisions  denying {denying}, shadow {shadow}{latency}"));
    for sink in &status.sinks {
        let error = sink.last_error.as_deref().unwrap_or("");
        lines.push(format!(
            "feed       {} {}: sent {}, queued {}, spool {} B, dropped {} {error}",
            sink.name,
            name(&sink.state),
            sink.sent,
            sink.queued,
            sink.spooled_bytes,
            sink.dropped
        ));
    }
    for off in &status.off {
        lines.push(format!("off        {off}"));
    }
    lines.push(format!("cost       {} MiB", status.memory_mib));
    // Line by line: no text of others can make a line of its own.
    lines.iter().map(|line| super::printable::printable(line)).collect::<Vec<_>>().join("\n")
}
