//! The commands as people meet them: what they print, and what they say when they cannot.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{corpus, plan};

fn trainer<S: AsRef<OsStr>>(arguments: &[S]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_stockade-trainer")).args(arguments).output().expect("the trainer");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a path").to_owned()
}

#[test]
fn a_corpus_is_trained_calibrated_tuned_evaluated_compared_and_exported() {
    let folder = tempfile::tempdir().expect("a folder");
    let journals = path(folder.path(), "journals");
    corpus(Path::new(&journals), "web", 3, &plan());
    let model = path(folder.path(), "web.model");
    let (good, told, error) = trainer(&["train", &journals, "--out", &model, "--calibrate"]);
    assert!(good && told.contains("events of 1 workloads; healthy, 64 trees over"), "{told}{error}");
    let (good, told, _) = trainer(&["inspect", &model]);
    assert!(good && told.contains("unit:shop.service:") && told.contains(", frozen"), "{told}");
    let (good, told, _) = trainer(&["inspect", &model, "--facts", "unit:shop.service"]);
    assert!(good && told.contains("exec edge: /usr/bin/httpd > /usr/bin/helper"), "{told}");
    let script = "\"$0\" inspect \"$1\" --facts unit:shop.service | true";
    let mut unread = Command::new("sh");
    let unread = unread.args(["-c", script, env!("CARGO_BIN_EXE_stockade-trainer"), &model]).output().expect("a shell");
    assert!(unread.status.success() && unread.stderr.is_empty(), "{}", String::from_utf8_lossy(&unread.stderr));
    let (good, told, _) = trainer(&["calibrate", &journals]);
    let levels: Vec<f64> =
        told.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
    assert!(good && levels.len() == 4 && levels.is_sorted(), "a smaller budget has a higher level: {told}");
    let (good, told, _) = trainer(&["tune", &journals, "--trials", "2", "--seeds", "1"]);
    assert!(good && told.contains("best: trees"), "{told}");
    let out = path(folder.path(), "card");
    let (good, told, error) = trainer(&["evaluate", &journals, "--no-ablations", "--out", &out]);
    assert!(good && told.contains("# Scorecard") && error.contains("scorecard.json"), "{error}");
    let card = path(folder.path(), "card/scorecard.json");
    let (good, told, _) = trainer(&["compare", &card, &card, "--other-row", "constant"]);
    assert!(good && told.contains("share found +") && told.contains("resampled by recording"), "{told}");
    let table = path(folder.path(), "verdicts.parquet");
    let (good, told, error) = trainer(&["export", &journals, "--out", &table]);
    assert!(good && told.contains("judged events"), "{told}{error}");
    assert!(std::fs::metadata(&table).is_ok_and(|file| file.len() > 10_000));
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |arguments: &[&str]| {
        let (good, _, error) = trainer(arguments);
        assert!(!good, "{arguments:?}");
        error
    };
    let nothing = path(folder.path(), "nothing");
    assert!(refused(&["evaluate", &nothing]).contains("cannot look into"));
    std::fs::create_dir(&nothing).expect("a folder");
    std::fs::write(path(folder.path(), "nothing/day.parquet"), b"").expect("written");
    assert!(refused(&["evaluate", &nothing]).contains("split = \"train\" is enough to learn from"));
    std::fs::remove_file(path(folder.path(), "nothing/day.parquet")).expect("removed");
    assert!(refused(&["evaluate", &nothing]).contains("holds no journals: `cargo xtask corpus journal` makes them"));
    std::fs::write(folder.path().join("a.model"), b"STKM but no more").expect("written");
    let model = path(folder.path(), "a.model");
    assert!(refused(&["inspect", &model]).contains("is no model"));
    corpus(Path::new(&nothing), "web", 3, &plan()[..1]);
    corpus(Path::new(&nothing), "shop", 3, &plan()[..1]);
    let out = path(folder.path(), "out.model");
    assert!(refused(&["train", &nothing, "--out", &out]).contains("say --host with one of shop, web"));
    assert!(refused(&["calibrate", &nothing]).contains("there are no validation days"));
    assert!(!Path::new(&out).exists());
    std::fs::write(folder.path().join("nothing/web/cycle-00.toml"), "split = 3").expect("written");
    assert!(refused(&["evaluate", &nothing]).contains("are no labels"));
}

#[test]
fn a_training_that_was_broken_off_goes_on_to_the_same_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let journals = path(folder.path(), "journals");
    corpus(Path::new(&journals), "web", 3, &plan());
    let train = |out: &str| trainer(&["train", &journals, "--out", out, "--calibrate"]);
    let (whole, broken) = (path(folder.path(), "whole.model"), path(folder.path(), "broken.model"));
    assert!(train(&whole).0);
    let unfinished = format!("{broken}.unfinished");
    // Whoever is to be ended in the middle may be through before: then once more.
    let is_broken_off = || {
        let _ = std::fs::remove_file(&broken);
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade-trainer"));
        command.args(["train", &journals, "--out", &broken, "--calibrate"]).stdout(Stdio::null());
        let mut child = command.spawn().expect("the trainer");
        while child.try_wait().expect("a child").is_none() && !Path::new(&unfinished).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        child.wait().expect("a child");
        Path::new(&unfinished).exists() && !Path::new(&broken).exists()
    };
    assert!((0..50).any(|_| is_broken_off()), "it is never ended in the middle");
    let (done, _, said) = train(&broken);
    assert!(done && said.contains("goes on  after"), "{said}");
    assert_eq!(std::fs::read(&broken).expect("a model"), std::fs::read(&whole).expect("a model"));
    assert!(!Path::new(&unfinished).exists());
    // Another training does not go on from it.
    std::fs::write(&unfinished, b"{}\n").expect("written");
    let (done, _, said) = train(&broken);
    assert!(done && !said.contains("goes on"), "{said}");
}
