//! The command line as people and scripts meet it: texts, exit codes, and names that would like to take over a terminal.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use collector::api::protocol::{BaselineRow, Status};
use collector::cli::printable::printable;
use collector::cli::{baseline, doctor, findings, marks, status};
use collector::decision::Author;
use collector::finding::{Finding, FindingState, FindingType, ProcessSummary, Reason, Severity};
use collector::loader::probe::{Item, Level};
use collector::policy::marks::{Mark, Scope, Word};
use collector::policy::mode::Mode;
use collector::policy::would::WouldDeny;
use model::drift::Gauge;
use model::event::Time;
use model::explain::Part;
use model::purge::Incident;
use model::{Coordinate, Drifted, Fact, Health, HealthState};
use uuid::Uuid;

const HOSTILE: &str = "/tmp/\u{1b}[2J\u{7}\u{202e}txt.exe\nFAKE  HIGH";

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("STOCKADE_BLESS").is_some() {
        std::fs::write(&path, text).expect("blessed");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "if this is meant: STOCKADE_BLESS=1 cargo test -p collector --test cli");
}

fn harmless(text: &str) {
    let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
    assert_eq!(bad, None, "{text:?}");
}

fn finding() -> Finding {
    let at = |seconds: u64| Time { unix_ns: (1_764_079_331 + seconds) * 1_000_000_000, boot_ns: 0 };
    let process = |pid: u32, exe: &str| ProcessSummary {
        cookie: u64::from(pid),
        pid,
        exe: exe.into(),
        cmdline: format!("{exe} -c \"curl http://203.0.113.7\"").into(),
        uid: 33,
        loginuid: None,
    };
    Finding {
        id: Uuid::from_u128(0x0198_f6a2_7c1e_7b32_9d55_2f3c_8d1e_0a11),
        kind: FindingType::ExecNovel,
        severity: Severity::High,
        state: FindingState::Open,
        host: "web-014".into(),
        workload: "unit:shop-web.service".into(),
        mode: Mode::Enforcing,
        created: at(0),
        began: at(0),
        updated: at(4),
        count: 3,
        title: format!("helper started {HOSTILE}, which unit:shop-web.service never did"),
        anchor: 4711,
        tree: vec![process(912, "/usr/sbin/nginx"), process(4409, "/srv/helper"), process(4711, HOSTILE)],
        score: 63.4,
        threshold: 30.0,
        calibrated: false,
        depth: Some((1.9, 8.4)),
        parts: vec![Part {
            coordinate: Coordinate::Lineage,
            bits: 21.8,
            contribution: 20.1,
            usual: (0.0, 1.3),
            because: format!("/srv/helper > {HOSTILE} never seen"),
        }],
        reasons: vec![Reason {
            what: "exec edge".to_owned(),
            now: format!("/srv/helper > {HOSTILE}"),
            usual: "7 others in 500 observations, never this one".to_owned(),
            bits: 21.8,
        }],
        program: "".into(),
        facts: vec![],
        happened: vec!["exec sh".to_owned(), "exec curl".to_owned()],
        related: Vec::new(),
        decisions: vec![4],
        denied: 2,
        lost: 0.0,
        stale: false,
        test: false,
    }
}

#[test]
fn a_finding_is_explained_and_its_names_are_harmless() {
    let text = findings::show(&finding());
    harmless(&text);
    assert!(!text.lines().any(|line| line.starts_with("FAKE")), "a name cannot make a line of its own");
    golden("finding.txt", &text);
}

fn health(state: HealthState) -> Health {
    let since = Time { unix_ns: 1_764_079_331 * 1_000_000_000, boot_ns: 0 };
    Health { state, since, rows: 2_040, trees: 64, unmodelled: 0, dropped: 0, given_up: 0 }
}

fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        host: "web-014".to_owned(),
        up_seconds: 777_600,
        can_deny_network: true,
        can_deny_programs: false,
        can_deny_files: false,
        off: vec!["owner_send: no such tracepoint\u{1b}[31m".to_owned()],
        ledger: serde_json::Value::Null,
        ledger_text: "all      sent 912 = decoded 900 + rejected 0 + lost 12\ncalls    seen 5 = recorded 5".to_owned(),
        workloads: [9, 44, 3],
        health: health(HealthState::Healthy),
        drifted: Vec::new(),
        sick: Vec::new(),
        unlearns_s: Some(151_200),
        threshold: 30.0,
        calibrated: false,
        promise: None,
        findings: [3, 0, 1],
        held_back: 0,
        decisions: [1, 4],
        sinks: Vec::new(),
        latency_us: (2, 840, 1_200),
        memory_mib: 51,
        clock_factor: 1.0,
    }
}

#[test]
fn the_status_says_what_is_off_and_what_is_not_calibrated() {
    let text = status::text(&status());
    harmless(&text);
    golden("status.txt", &text);
}

#[test]
fn the_status_says_why_nothing_is_denied_and_since_when() {
    let since = Time { unix_ns: 1_764_079_331 * 1_000_000_000, boot_ns: 0 };
    let drifted = Drifted { gauge: Gauge::FlowBytes, usual: 4_100.0, now: 9_800.0, since };
    let unwell = Status {
        health: health(HealthState::Unreachable { level: 400.0, most: 187.3 }),
        drifted: vec![("unit:shop.service".into(), vec![drifted])],
        sick: vec![("unit:beat.timer".into(), HealthState::Constant { depth: 8.2, asked: 9 })],
        calibrated: true,
        promise: Some((5.2, (0.4, 1.8))),
        ..status()
    };
    golden("status-unwell.txt", &status::text(&unwell));
}

#[test]
fn a_mark_says_what_was_meant_and_what_came_of_it() {
    let at = |seconds: u64| Time { unix_ns: (1_764_079_331 + seconds) * 1_000_000_000, boot_ns: 0 };
    let benign = Word::Benign {
        scope: Scope::Facts(vec![Fact::ExecEdge { parent: "/srv/helper".into(), child: HOSTILE.into() }]),
        naming: vec!["memory exec".to_owned()],
    };
    let mark = |number, word, unlearnt: Option<&str>| Mark {
        number,
        word,
        kind: FindingType::ExecNovel,
        workload: "unit:shop-web.service".into(),
        finding: "F-HW2GH".to_owned(),
        author: Author::Operator("ada".to_owned()),
        reason: "our own".to_owned(),
        since: at(0),
        until: None,
        undone: None,
        unlearnt: unlearnt.map(str::to_owned),
        hits: 3,
        last_hit: None,
    };
    let attack = || Word::Malicious { incident: Incident { anchor: 4711, since: at(0), until: at(9) } };
    let marks = [
        Mark { until: Some(at(86_400)), ..mark(1, benign, None) },
        mark(2, attack(), None),
        mark(3, attack(), Some("32 events left out, 7669 things told again")),
    ];
    let lines: Vec<String> =
        marks.iter().map(|mark| marks::cells(mark).map(|cell| printable(&cell).into_owned()).join(" | ")).collect();
    let text = lines.join("\n");
    harmless(&text);
    golden("marks.txt", &text);
}

#[test]
fn no_text_of_others_makes_a_line_of_its_own() {
    let forged = |text: &str| Status { off: vec![format!("x{text}cost       FORGED")], ..status() };
    for text in ["\n", "\u{1}", "\\u{1}", "\\u{a}"] {
        assert!(!status::text(&forged(text)).lines().any(|line| line.starts_with("cost       FORGED")), "{text:?}");
    }
}

#[test]
fn a_baseline_row_says_what_is_missing() {
    let row = BaselineRow {
        workload: "unit:nginx.service".to_owned(),
        mode: Mode::Enforcing,
        author: "root".to_owned(),
        falls_back_in: Some(28_000),
        ready: false,
        reasons: vec!["a new fact 3 min ago".to_owned()],
        flags: vec!["tainted".to_owned()],
        windows: 1_900_000,
        execs: 40,
        flows: 7,
        exes: 2,
        exec_edges: 3,
        destinations: 1,
        trigrams: 250,
        singleton_share: 0.12,
        would_deny: None,
    };
    let would_deny = Some(WouldDeny::over(0, 9 * 86_400 * 1_000_000_000));
    let monitored = BaselineRow { mode: Mode::Monitoring, ready: true, reasons: Vec::new(), would_deny, ..row.clone() };
    let texts = [row, monitored].map(|row| baseline::status_cells(&row).join("\n"));
    golden("baseline.txt", &texts.join("\n\n"));
}

#[test]
fn the_doctor_names_the_loss_and_the_remedy() {
    let item = |level, area: &str, text: &str, lost: &str, fix: &str| Item {
        level,
        area: area.to_owned(),
        text: text.to_owned(),
        lost: lost.to_owned(),
        fix: fix.to_owned(),
    };
    let items = [
        item(Level::Ok, "kernel", "Linux 6.18.0, x86_64", "", ""),
        item(Level::Off, "LSM", "this kernel loads no LSM programs", "denial of exec", "boot with bpf in lsm="),
    ];
    golden("doctor.txt", &doctor::text(&items));
}

// ---- The binary itself ---------------------------------------------------------------------------------------------

fn stockade(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stockade")).args(args).output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn exit_codes_are_as_documented() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("good.toml"), "[agent]\nsocket = \"/nonexistent/stockade.sock\"\n").expect("written");
    std::fs::write(path("bad.toml"), "[agent]\nsokket = \"/x\"\n").expect("written");

    let help = stockade(&["--help"]);
    assert!(said(&help).contains("Exit codes:"));
    assert_eq!(stockade(&["no-such-command"]).status.code(), Some(2));
    let bad = stockade(&["config", "check", "--config", &path("bad.toml")]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(said(&bad).contains("did you mean `socket`?"), "{}", said(&bad));
    assert_eq!(stockade(&["config", "check", "--config", &path("good.toml")]).status.code(), Some(0));
    let absent = stockade(&["status", "--config", &path("good.toml")]);
    assert_eq!(absent.status.code(), Some(3), "{}", said(&absent));
    assert!(said(&absent).contains("sudo stockade run"), "the remedy: {}", said(&absent));
    let missing = stockade(&["replay", &path("nothing.stk")]);
    assert_eq!(missing.status.code(), Some(1));
    std::fs::write(path("garbage.stk"), [0x5a; 4096]).expect("written");
    assert!(said(&stockade(&["replay", &path("garbage.stk")])).contains("not a recording"));
}

#[test]
fn a_cut_recording_is_replayed_up_to_the_cut() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut collector::demo::recorded_run(), &mut bytes).expect("the recorded run");
    let file: PathBuf = directory.path().join("cut.stk");
    std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("written");
    let output = stockade(&["replay", &file.to_string_lossy(), "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "attention: it was cut off");
    let replayed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(replayed["records"].as_u64().is_some_and(|records| records > 100));
    assert!(replayed["cut_off"].as_str().is_some_and(|why| why.contains("cut off")));
}

#[test]
fn the_events_of_a_recording_are_shown_packed_or_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo.stk.gz");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut collector::demo::recorded_run(), &mut bytes).expect("the recorded run");
    let plain = directory.path().join("plain.stk");
    std::fs::write(&plain, &bytes).expect("written");
    let shown = |file: &Path, more: &[&str]| {
        stockade(&[&["events", "--recorded", &file.to_string_lossy(), "--count", "5"], more].concat())
    };
    let output = shown(&packed, &["-o", "jsonl"]);
    assert_eq!(output.stdout, shown(&plain, &["-o", "jsonl"]).stdout);
    let events: Vec<model::event::Event> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event"))
        .collect();
    assert_eq!(events.len(), 5);
    let output = shown(&packed, &["--workload", "unit:shop-web.service"]);
    assert_eq!(said(&output).matches("unit:shop-web.service").count(), 5, "{}", said(&output));
    std::fs::write(&plain, &bytes[..bytes.len() / 2]).expect("written");
    let cut = stockade(&["events", "--recorded", &plain.to_string_lossy()]);
    assert!(cut.status.code() == Some(1) && said(&cut).contains("cut off"), "{}", said(&cut));
}

#[test]
fn a_recording_cannot_be_asked_to_run_backwards() {
    let output = stockade(&["record", "/nonexistent/day.stk", "--faster", "0.5"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("1 to 1000000"), "{}", said(&output));
}

#[test]
fn the_recorded_demo_keeps_its_promises_without_privileges() {
    let output = stockade(&["demo", "--recorded"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("nothing is denied") && said(&output).contains("PASS"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(["config", "show", "--config", "/dev/null"])
        .stdout(writer)
        .output()
        .expect("the binary runs");
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""));
}

// ---- A socket with something behind it -----------------------------------------------------------------------------

/// A configuration whose socket answers every line with `answer`, or never.
fn behind_a_socket(answer: Option<serde_json::Value>, test: impl FnOnce(&str)) {
    use std::io::{BufRead, BufReader, Write};
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, config) = (directory.path().join("agent.sock"), directory.path().join("stockade.toml"));
    let bpffs = directory.path().join("bpffs");
    let text = format!("[agent]\nsocket = {socket:?}\n[kernel]\nbpffs = {bpffs:?}\n");
    std::fs::write(&config, text).expect("written");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            if let Some(answer) = &answer {
                let _ = stream.write_all(format!("{answer}\n").as_bytes());
            }
            kept.push(stream);
        }
    });
    test(&config.to_string_lossy());
}

#[test]
fn json_is_harmless_for_a_terminal_and_says_the_same() {
    let name = "unit:x\u{9b}2J\u{202e}.service";
    let row = serde_json::json!({ "workload": name, "windows": 1, "execs": 0, "flows": 0, "processes": 1 });
    behind_a_socket(Some(serde_json::json!({ "ok": [row] })), |config| {
        for output in ["json", "jsonl"] {
            let output = stockade(&["top", "--config", config, "-o", output]);
            harmless(&said(&output));
            let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(value.get(0).unwrap_or(&value)["workload"], name);
        }
    });
}

#[test]
fn a_refusal_has_its_code_and_harmless_words() {
    let error = |code: &str| serde_json::json!({ "error": { "code": code, "text": format!("no {HOSTILE}") } });
    for (code, exit) in [("usage", 2), ("refused", 4), ("not-permitted", 5), ("failed", 1)] {
        behind_a_socket(Some(error(code)), |config| {
            let output = stockade(&["status", "--config", config]);
            assert_eq!(output.status.code(), Some(exit), "{}", said(&output));
            harmless(&said(&output));
            assert_eq!(said(&output).lines().count(), 1, "a name makes no line: {}", said(&output));
        });
    }
}

#[test]
fn disarm_does_not_wait_for_an_agent_that_is_stopped() {
    behind_a_socket(None, |config| {
        let start = std::time::Instant::now();
        let output = stockade(&["disarm", "--config", config]);
        assert!(start.elapsed() < std::time::Duration::from_secs(20));
        assert_eq!(output.status.code(), Some(1), "nothing is pinned here to clear: {}", said(&output));
        assert!(said(&output).contains("does not answer"), "{}", said(&output));
    });
}
