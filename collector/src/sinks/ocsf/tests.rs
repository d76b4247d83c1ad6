use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::sinks::ndjson::safe_text;
use crate::sinks::tests_support;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/ocsf").join(name)
}

/// Schema, type_uid arithmetic and order of times.
fn check(event: &Value, schema: &str) {
    let schema: Value =
        serde_json::from_slice(&std::fs::read(data(&format!("{schema}.schema.json"))).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(event).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let number = |name: &str| event[name].as_u64().unwrap();
    assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"));
    assert_eq!(number("category_uid"), number("class_uid") / 1000);
    if !event["start_time"].is_null() {
        assert!(number("start_time") <= number("end_time") && number("end_time") <= number("time"));
    }
}

/// Compares with the file in `golden/`; `STOCKADE_BLESS=1` writes it.
fn golden(name: &str, event: &Value) {
    let path = data("golden").join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(event).unwrap() + "\n";
    if std::env::var_os("STOCKADE_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} differs: look, then STOCKADE_BLESS=1", path.display());
}

#[test]
fn a_finding_is_created_updated_and_closed() {
    let mut open = Finding::clone(&tests_support::finding());
    let created = finding(Change::Created, &open);
    check(&created, "detection_finding");
    golden("finding-created", &created);
    assert_eq!(created["is_alert"], true);
    let updated = finding(Change::Updated, &open);
    check(&updated, "detection_finding");
    assert_eq!((&updated["type_uid"], &updated["is_alert"]), (&json!(200_402), &json!(false)));
    open.state = FindingState::Closed;
    let closed = finding(Change::Closed, &open);
    check(&closed, "detection_finding");
    golden("finding-closed", &closed);
    assert_eq!((&closed["type_uid"], &closed["status"]), (&json!(200_403), &json!("Resolved")));
}

#[test]
fn a_container_needs_its_profile() {
    let mut inside = Finding::clone(&tests_support::finding());
    inside.workload = "container:registry.example/shop/web:1/front".into();
    let event = finding(Change::Created, &inside);
    check(&event, "detection_finding_container");
    golden("finding-container", &event);
    assert!(event["metadata"]["profiles"].as_array().unwrap().contains(&json!("container")));
}

#[test]
fn a_test_finding_is_no_alert_and_says_so() {
    let mut test = Finding::clone(&tests_support::finding());
    test.test = true;
    let event = finding(Change::Created, &test);
    check(&event, "detection_finding");
    assert_eq!(event["is_alert"], false);
    assert_eq!(event["evidences"][0]["verdict_id"], 6);
}

#[test]
fn what_is_only_counted_is_not_called_denied() {
    let mut monitored = Finding::clone(&tests_support::finding());
    monitored.mode = Mode::Monitoring;
    let event = finding(Change::Created, &monitored);
    assert_eq!((&event["action"], &event["disposition"]), (&json!("Observed"), &json!("Detected")));
}

#[test]
fn a_finding_with_next_to_nothing_is_still_valid() {
    let mut bare = Finding::clone(&tests_support::finding());
    (bare.tree, bare.reasons, bare.happened, bare.related, bare.decisions) = Default::default();
    (bare.depth, bare.score, bare.threshold) = (None, f64::INFINITY, f64::NAN);
    check(&finding(Change::Created, &bare), "detection_finding");
}

#[test]
fn every_target_of_a_decision_is_valid_made_and_undone() {
    let to = Destination { net: "2001:db8::/32".parse().unwrap(), ports: vec![] };
    let targets = [
        (Target::Tree { cookie: 4711 }, "process_remediation_activity", "tree"),
        (Target::Cgroup { id: 9, level: 2, path: "/a/b".into() }, "network_remediation_activity", "cgroup"),
        (Target::Address { to }, "network_remediation_activity", "address"),
        (tests_support::decision().target.clone(), "network_remediation_activity", "tree-address"),
    ];
    for (target, schema, name) in targets {
        let mut made = Decision::clone(&tests_support::decision());
        made.target = target;
        let event = decision(Change::Created, &made, "web-01").unwrap();
        check(&event, schema);
        golden(&format!("decision-{name}"), &event);
        made.state = DecisionState::Released;
        made.ended = Some(made.until);
        made.release = Some("alice: false alarm".into());
        let undone = decision(Change::Closed, &made, "web-01").unwrap();
        check(&undone, schema);
        assert_eq!((&undone["activity_id"], &undone["command_uid"]), (&json!(3), &event["command_uid"]));
        assert!(decision(Change::Updated, &made, "web-01").is_none());
    }
}

#[test]
fn hostile_text_stays_valid_json_and_harmless_to_a_terminal() {
    let hostile = format!("\u{1b}[2J\n\"\\\u{202e}\u{9b}\0{}", String::from_utf8_lossy(b"\xff\xfe"));
    let mut bad = Finding::clone(&tests_support::finding());
    bad.title = hostile.clone();
    bad.host = hostile.as_str().into();
    bad.workload = format!("k8s:{hostile}").into();
    bad.tree[1].exe = Arc::from(hostile.as_str());
    bad.tree[1].cmdline = Arc::from(hostile.as_str());
    bad.reasons[0].now = hostile.clone();
    let event = finding(Change::Created, &bad);
    check(&event, "detection_finding_container");
    let line = safe_text(&event);
    assert!(!line.chars().any(|character| character.is_control() || character == '\u{202e}'));
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), event);
    assert_eq!(event["finding_info"]["title"], hostile);
}
