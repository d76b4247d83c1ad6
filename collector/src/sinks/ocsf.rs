//! Findings and decisions as OCSF 1.8.0 events: Detection Finding (2004), Process and Network Remediation Activity (7003,
//! 7004). What OCSF has no attribute for is below `unmapped.stockade`. Texts stay as they were seen; JSON escapes them.

use model::explain::Part;
use serde_json::{Value, json};

use super::Change;
use crate::decision::{Author, Decision, DecisionAction, DecisionState, Destination, Target, short_number};
use crate::finding::{Finding, FindingState, FindingType, ProcessSummary, Severity};
use crate::policy::mode::Mode;

/// The OCSF version that is written.
pub const VERSION: &str = "1.8.0";

/// A finding as Detection Finding: Create, Update or Close.
pub fn finding(change: Change, finding: &Finding) -> Value {
    let activity = match change {
        Change::Created => 1,
        Change::Updated => 2,
        Change::Closed => 3,
    };
    let mut event = header(2004, activity, ms(finding.updated.unix_ns));
    let container = container(&finding.workload);
    let mut profiles = vec!["security_control", "host"];
    profiles.extend(container.as_ref().map(|_| "container"));
    event["metadata"]["profiles"] = json!(profiles);
    event["metadata"]["uid"] = json!(format!("{}.{}.{activity}", finding.id, finding.count));
    event["metadata"]["correlation_uid"] = json!(finding.id);
    event["metadata"]["log_name"] = json!("stockade.findings.v1");
    let (severity_id, severity) = severity(finding.severity);
    let (status_id, status) = status(finding);
    let (action_id, action, disposition_id, disposition) = outcome(finding);
    let fields = json!({
        "severity_id": severity_id, "severity": severity,
        "status_id": status_id, "status": status,
        // The schema asks for it on Create alone: an update must not page again.
        "is_alert": change == Change::Created && !finding.test,
        "start_time": ms(finding.created.unix_ns), "end_time": ms(finding.updated.unix_ns),
        "count": finding.count,
        "message": message(finding),
        "action_id": action_id, "action": action,
        "disposition_id": disposition_id, "disposition": disposition,
        "finding_info": finding_info(finding),
        "anomaly_analyses": [analysis(finding)],
        "evidences": evidences(finding, container),
        "device": device(&finding.host),
        "observables": observables(finding),
        "unmapped": {"stockade": unmapped(finding)},
    });
    extend(&mut event, fields);
    if !finding.decisions.is_empty() {
        event["remediation"] = json!({"desc": undo(&finding.decisions)});
    }
    event
}

/// A decision as Remediation Activity: Isolate when it is made, Restore when it ends. None for other changes: hits are told
/// by the finding.
pub fn decision(change: Change, decision: &Decision, host: &str) -> Option<Value> {
    let (activity, at) = match change {
        Change::Created => (1, decision.created),
        Change::Closed => (3, decision.ended.unwrap_or(decision.until)),
        Change::Updated => return None,
    };
    let class = match decision.target {
        Target::Tree { .. } => 7003,
        Target::Executable { .. } | Target::CgroupExecutable { .. } => 7002,
        Target::Cgroup { .. } | Target::Address { .. } | Target::TreeAddress { .. } => 7004,
    };
    let ((tactic, tactic_name), technique) = countermeasure(decision.action);
    let mut event = header(class, activity, ms(at.unix_ns));
    event["metadata"]["profiles"] = json!(["host"]);
    event["metadata"]["uid"] = json!(format!("{host}.{}.{activity}", decision.short()));
    event["metadata"]["log_name"] = json!("stockade.decisions.v1");
    if let Some(finding) = decision.finding {
        event["metadata"]["correlation_uid"] = json!(finding);
    }
    let fields = json!({
        "severity_id": 1, "severity": "Informational",
        "status_id": 1, "status": "Success",
        "status_detail": status_detail(decision),
        "message": decision_message(change, decision),
        "command_uid": decision.short(),
        "device": device(host),
        "countermeasures": [{
            "version": "1.0.0",
            "d3f_tactic": {"uid": tactic, "name": tactic_name},
            "d3f_technique": {"uid": technique.0, "name": technique.1},
        }],
        "remediation": {"desc": undo(&[decision.number])},
        "unmapped": {"stockade": {
            "decision": decision,
            "until": ms(decision.until.unix_ns),
            "verdict": if decision.test { "Test" } else { "Suspicious" },
        }},
    });
    extend(&mut event, fields);
    match &decision.target {
        Target::Tree { cookie } => event["process"] = json!({"uid": cookie.to_string()}),
        Target::Executable { file } | Target::CgroupExecutable { file, .. } => {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            event["file"] = json!({"name": name, "path": file.path, "type_id": 1, "type": "Regular File"});
        }
        Target::Cgroup { .. } | Target::Address { .. } | Target::TreeAddress { .. } => {
            event["connection_info"] = json!({"direction_id": 2, "direction": "Outbound"});
        }
    }
    if let Target::Address { to } | Target::TreeAddress { to, .. } = &decision.target {
        let single = to.net.prefix_len() == to.net.max_prefix_len();
        let (type_id, value) = if single { (2, to.net.addr().to_string()) } else { (12, to.net.to_string()) };
        let name = "unmapped.stockade.decision.target.to.net";
        event["observables"] = json!([{"name": name, "type_id": type_id, "value": value}]);
    }
    Some(event)
}

fn header(class: u32, activity: u32, time: u64) -> Value {
    json!({
        "class_uid": class, "category_uid": class / 1000, "activity_id": activity, "type_uid": class * 100 + activity,
        "time": time,
        "metadata": {
            "version": VERSION,
            "product": {"name": "Stockade", "vendor_name": "Stockade", "version": env!("CARGO_PKG_VERSION")},
        },
    })
}

fn extend(event: &mut Value, fields: Value) {
    if let (Value::Object(event), Value::Object(fields)) = (event, fields) {
        event.extend(fields);
    }
}

fn ms(unix_ns: u64) -> u64 {
    unix_ns / 1_000_000
}

fn severity(severity: Severity) -> (u32, &'static str) {
    match severity {
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
    }
}

fn status(finding: &Finding) -> (u32, &'static str) {
    match finding.state {
        FindingState::Open if finding.count > 1 => (2, "In Progress"),
        FindingState::Open => (1, "New"),
        FindingState::Closed => (4, "Resolved"),
    }
}

/// A shadow denial is an observation: only an enforcing workload has something denied.
fn outcome(finding: &Finding) -> (u32, &'static str, u32, &'static str) {
    if finding.denied > 0 && finding.mode == Mode::Enforcing {
        (2, "Denied", 2, "Blocked")
    } else {
        (3, "Observed", 15, "Detected")
    }
}

fn kind_name(kind: FindingType) -> Value {
    json!(kind)
}

fn message(finding: &Finding) -> String {
    let actor = finding.tree.last().map_or_else(String::new, |process| format!("{}[{}] ", process.exe, process.pid));
    let test = if finding.test { "TEST: " } else { "" };
    format!(
        "{test}{} {}: {actor}on {} scored {:.1} bits, threshold {:.1}; {} denied",
        finding.short(),
        finding.title,
        finding.host,
        finding.score,
        finding.threshold,
        finding.denied
    )
}

fn finding_info(finding: &Finding) -> Value {
    json!({
        "uid": finding.id,
        "uid_alt": finding.short(),
        "title": finding.title,
        "types": ["Anomaly", kind_name(finding.kind)],
        "created_time": ms(finding.created.unix_ns),
        "modified_time": ms(finding.updated.unix_ns),
        "first_seen_time": ms(finding.created.unix_ns),
        "last_seen_time": ms(finding.updated.unix_ns),
        "related_events_count": finding.related.len(),
        "related_events": finding.related.iter().map(|id| json!({"uid": id})).collect::<Vec<_>>(),
        "analytic": {
            "type_id": 4, "type": "Learning (ML/DL)", "name": "surprise isolation forest", "uid": kind_name(finding.kind),
            "algorithm": "Isolation forest", "version": env!("CARGO_PKG_VERSION"),
        },
    })
}

/// Each reason and each coordinate as an anomaly beside what is usual.
fn analysis(finding: &Finding) -> Value {
    let observed = |what: &str, pattern: &str, value: &str| json!({"observation_parameter": what, "observed_pattern": pattern, "observations": [{"value": value}]});
    let (mut anomalies, mut baselines) = (Vec::new(), Vec::new());
    for reason in &finding.reasons {
        anomalies.push(observed(&reason.what, "RARE", &reason.now));
        baselines.push(observed(&reason.what, "USUAL", &reason.usual));
    }
    for part in &finding.parts {
        let (name, (low, high)) = (part.coordinate.name(), part.usual);
        anomalies.push(observed(name, "RARE", &format!("{:.1} bits", part.bits)));
        baselines.push(observed(name, "USUAL", &format!("{low:.1}-{high:.1} bits")));
    }
    let mut analysis = json!({
        "analysis_targets": [{"name": finding.workload, "type": "Workload"}],
        "anomalies": anomalies,
        "baselines": baselines,
    });
    if analysis["anomalies"] == json!([]) {
        analysis["anomalies"] =
            json!([{"observation_parameter": "score", "observations": [{"value": format!("{:.2}", finding.score)}]}]);
    }
    analysis
}

fn evidences(finding: &Finding, container: Option<Value>) -> Value {
    let (verdict_id, verdict) = if finding.test { (6, "Test") } else { (4, "Suspicious") };
    let mut evidence = json!({"verdict_id": verdict_id, "verdict": verdict, "name": finding.short()});
    match process(&finding.tree) {
        Some(process) => evidence["process"] = process,
        None => evidence["data"] = json!({"anchor": finding.anchor.to_string()}),
    }
    if let Some(container) = container {
        evidence["container"] = container;
    }
    if !finding.happened.is_empty() {
        evidence["data"] = json!({"happened": finding.happened});
    }
    json!([evidence])
}

/// The innermost process with its ancestors inside.
fn process(tree: &[ProcessSummary]) -> Option<Value> {
    tree.iter().fold(None, |parent, process| {
        let mut value = json!({
            "pid": process.pid,
            "uid": process.cookie.to_string(),
            "name": base_name(&process.exe),
            "cmd_line": process.cmdline,
            "file": {"name": base_name(&process.exe), "path": process.exe, "type_id": 1},
            "user": {"uid": process.uid.to_string()},
        });
        if let Some(login) = process.loginuid {
            value["session"] = json!({"uid": format!("loginuid:{login}")});
        }
        if let Some(parent) = parent {
            value["parent_process"] = parent;
        }
        Some(value)
    })
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("?")
}

/// The container that a workload's name speaks of.
fn container(workload: &str) -> Option<Value> {
    if let Some(rest) = workload.strip_prefix("container:") {
        let (image, name) = rest.rsplit_once('/').unwrap_or((rest, rest));
        return Some(json!({"name": name, "image": {"uid": image, "name": image}}));
    }
    let rest = workload.strip_prefix("k8s:")?;
    Some(json!({"name": base_name(rest), "uid": rest}))
}

fn device(host: &str) -> Value {
    json!({"type_id": 1, "type": "Server", "hostname": host})
}

fn observables(finding: &Finding) -> Value {
    let mut list = vec![json!({"name": "device.hostname", "type_id": 1, "value": finding.host})];
    if let Some(process) = finding.tree.last() {
        list.push(json!({"name": "evidences[0].process.name", "type_id": 9, "value": base_name(&process.exe)}));
    }
    json!(list)
}

fn unmapped(finding: &Finding) -> Value {
    let reasons: Vec<_> =
        finding.reasons.iter().map(|reason| json!({"what": reason.what, "bits": finite(reason.bits)})).collect();
    let coordinate = |part: &Part| json!({"name": part.coordinate.name(), "bits": finite(part.bits), "usual_bits": [finite(part.usual.0), finite(part.usual.1)], "score_bits": finite(part.contribution), "because": part.because});
    json!({
        "type": finding.kind,
        "workload": finding.workload,
        "mode": finding.mode,
        "score_bits": finite(finding.score),
        "threshold_bits": finite(finding.threshold),
        "calibrated": finding.calibrated,
        "depth": finding.depth.map(|(now, median)| json!({"cuts": finite(now), "median_cuts": finite(median)})),
        "reasons": reasons,
        "coordinates": finding.parts.iter().map(coordinate).collect::<Vec<_>>(),
        "decisions": finding.decisions.iter().map(|number| short_number(*number)).collect::<Vec<_>>(),
        "denied": finding.denied,
        "lost": finite(finding.lost),
        "stale": finding.stale,
        "test": finding.test,
    })
}

/// JSON knows no infinity; 12 digits are the same on every machine.
fn finite(value: f64) -> Value {
    if value.is_finite() { json!((value * 1e6).round() / 1e6) } else { json!(value.to_string()) }
}

fn undo(decisions: &[u64]) -> String {
    let commands: Vec<_> = decisions
        .iter()
        .map(|number| format!("stockade decisions release {} --reason TEXT", short_number(*number)))
        .collect();
    format!("Undo on the host: {}", commands.join("; "))
}

fn status_detail(decision: &Decision) -> String {
    let state = match decision.state {
        DecisionState::Active if decision.shadow => "shadow: counted, nothing is denied",
        DecisionState::Active => "in force",
        DecisionState::Lapsed => "lapsed at its deadline",
        DecisionState::Released => "released",
        DecisionState::Tripped => "disarmed by the breaker",
    };
    decision.release.as_ref().map_or_else(|| state.to_owned(), |release| format!("{state}: {release}"))
}

type Named = (&'static str, &'static str);

/// Tactic and technique of MITRE D3FEND that an action is.
fn countermeasure(action: DecisionAction) -> (Named, Named) {
    const ISOLATE: Named = ("d3f:Isolate", "Isolate");
    const EVICT: Named = ("d3f:Evict", "Evict");
    match action {
        DecisionAction::DenyConnect | DecisionAction::Isolate | DecisionAction::Fence => {
            (ISOLATE, ("D3-OTF", "Outbound Traffic Filtering"))
        }
        DecisionAction::DenyExec => (ISOLATE, ("D3-EDL", "Executable Denylisting")),
        DecisionAction::DenyOpenWrite => (ISOLATE, ("D3-MAC", "Mandatory Access Control")),
        DecisionAction::DenyTamper => (ISOLATE, ("D3-SCF", "System Call Filtering")),
        DecisionAction::Cut => (ISOLATE, ("D3-NTF", "Network Traffic Filtering")),
        DecisionAction::Freeze => (EVICT, ("D3-PS", "Process Suspension")),
        DecisionAction::Kill => (EVICT, ("D3-PT", "Process Termination")),
    }
}

fn decision_message(change: Change, decision: &Decision) -> String {
    let verb = match (change, decision.action, decision.shadow) {
        (Change::Closed, ..) => "restore",
        (_, _, true) => "watch (shadow)",
        (_, DecisionAction::DenyConnect, _) => "deny connect",
        (_, DecisionAction::Isolate, _) => "isolate",
        (_, DecisionAction::Fence, _) => "fence",
        (_, DecisionAction::DenyExec, _) => "deny exec",
        (_, DecisionAction::DenyOpenWrite, _) => "deny open-for-write",
        (_, DecisionAction::DenyTamper, _) => "deny ptrace, modules and bpf",
        (_, DecisionAction::Freeze, _) => "contain by freezing",
        (_, DecisionAction::Kill, _) => "contain by killing",
        (_, DecisionAction::Cut, _) => "contain by cutting connections of",
    };
    let target = match &decision.target {
        Target::Tree { cookie } => format!("process tree {cookie}"),
        Target::Cgroup { path, .. } => format!("cgroup {path}"),
        Target::Address { to } => address(to),
        Target::TreeAddress { cookie, to } => format!("process tree {cookie} to {}", address(to)),
        Target::Executable { file } => file.path.to_string(),
        Target::CgroupExecutable { path, file, .. } => format!("{} in cgroup {path}", file.path),
    };
    let author = match &decision.author {
        Author::Automatic => "automatic".to_owned(),
        Author::Operator(name) => format!("operator {name}"),
    };
    let test = if decision.test { "TEST: " } else { "" };
    format!("{test}{} {verb} {target}: {} ({author}, {} hits)", decision.short(), decision.reason, decision.hits)
}

fn address(to: &Destination) -> String {
    let ports: Vec<_> = to
        .ports
        .iter()
        .map(|(from, until)| if from == until { from.to_string() } else { format!("{from}-{until}") })
        .collect();
    if ports.is_empty() { to.net.to_string() } else { format!("{} ports {}", to.net, ports.join(",")) }
}

#[cfg(test)]
mod tests;
