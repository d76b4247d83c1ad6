//! Records one day of a host and writes what happened beside it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::attacks::{Attack, Cleanup, LOGIN};
use super::changes::{self, Change};
use super::day::Day;
use super::labels::{Cycle, Kind, Span};
use super::roots;
use super::schedule::{Act, FACTOR, Profile, SECONDS, What, day, split_of};
use super::services::API;
use super::stage::compile;
use crate::told;

/// The first day of every host: a Monday.
const FIRST_DAY_UNIX: u64 = 1_767_571_200;
const DAY_SECONDS: u64 = 86_400;
/// An act that begins later than this before the end would be cut off.
const LAST: f64 = SECONDS as f64 - 3.0;

/// The clock of a recording's events.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Clock {
    boot_ns: u64,
    unix_ns: u64,
    factor: f64,
}

impl Clock {
    /// Event time of a moment on the boot clock.
    pub fn at(&self, boot_ns: u64) -> u64 {
        self.unix_ns + (boot_ns.saturating_sub(self.boot_ns) as f64 * self.factor) as u64
    }
}

/// The boot clock now.
pub fn boot_now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A running `stockade record`.
struct Recorder {
    child: Child,
    output: BufReader<ChildStdout>,
    clock: Clock,
}

impl Recorder {
    fn start(day: &Day<'_>, stockade: &Path, file: &Path) -> anyhow::Result<Self> {
        let config = day.stage.world_folder().join("record.toml");
        fs::write(&config, format!("[scope]\ncgroup = {:?}\n", day.stage.watched))?;
        let beginning = FIRST_DAY_UNIX + u64::from(day.cycle - 1) * DAY_SECONDS;
        let beginning = told(Command::new("date").args(["-u", "-d", &format!("@{beginning}"), "+%Y-%m-%dT%H:%M:%SZ"]));
        // The recording is to bear the host's name, not this machine's.
        let script = "echo \"$0\" > /proc/sys/kernel/hostname && exec \"$@\"";
        let mut child = Command::new("unshare")
            .args(["--uts", "/bin/sh", "-c", script, &day.stage.name])
            .arg(stockade)
            .arg("record")
            .arg(file)
            .args(["--for", &format!("{SECONDS}s"), "--faster", &FACTOR.to_string(), "-o", "jsonl"])
            .args(["--beginning", &beginning.context("no date")?, "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the recorder")?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        #[derive(Deserialize)]
        struct First {
            clock: Clock,
        }
        let first: First = serde_json::from_str(&line).with_context(|| format!("the recorder said {line:?}"))?;
        Ok(Self { child, output, clock: first.clock })
    }

    /// Waits for the end and gives the number of records, the number of losses and what was lost.
    fn finish(mut self) -> anyhow::Result<(u64, u64, String)> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let status = self.child.wait()?;
        let last: serde_json::Value =
            serde_json::from_str(&line).with_context(|| format!("the recorder ended with {status} and {line:?}"))?;
        let ledger = &last["ledger"];
        let count = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
        let rows = ledger["rows"].as_array().map_or(0, |rows| rows.iter().map(|row| count(&row["lost"])).sum());
        let calls = count(&ledger["calls"]["missed"]) + count(&ledger["calls"]["no_storage"]);
        let broken = u64::from(last["closes"] != true);
        let lost = rows + calls + broken;
        let loss = if lost > 0 { ledger.to_string() } else { String::new() };
        Ok((count(&last["records"]), lost, loss))
    }
}

/// Records a day into `folder`.
pub fn record(day_: &Day<'_>, host: &Profile, stockade: &Path, folder: &Path) -> anyhow::Result<Cycle> {
    let plain = day_.stage.world_folder().join("recording.stk");
    let acts = day(host, day_.cycle)?;
    day_.world.tell(&format!("seed {}", day_.seed))?;
    let recorder = Recorder::start(day_, stockade, &plain)?;
    let (clock, began) = (recorder.clock, boot_now());
    day_.world.tell(&format!("day {began} {SECONDS}"))?;
    let spans = Mutex::new(boot(day_, clock)?);
    std::thread::scope(|scope| {
        for act in acts.iter().filter(|act| act.at < LAST) {
            let spans = &spans;
            scope.spawn(move || {
                wait_until(began + (act.at * 1e9) as u64);
                match carry_out(day_, act, clock) {
                    Ok(Some(span)) => spans.lock().unwrap_or_else(PoisonError::into_inner).push(span),
                    Ok(None) => (),
                    Err(error) => println!("corpus   {} day {}: {error:#}", host.name, day_.cycle),
                }
            });
        }
    });
    let (records, lost, loss) = recorder.finish()?;
    // It answers every line with its counts.
    day_.world.tell("rate 1")?;
    std::thread::sleep(Duration::from_millis(200));
    let mut spans = spans.into_inner().unwrap_or_else(PoisonError::into_inner);
    spans.sort_by_key(|span| span.start_unix_ns);
    roots::find(stockade, &plain, &mut spans)?;
    let name = format!("cycle-{:02}", day_.cycle);
    fs::create_dir_all(folder)?;
    compress(&plain, &folder.join(format!("{name}.stk.gz")))?;
    fs::remove_file(&plain)?;
    let cycle = Cycle {
        host: host.name.to_owned(),
        cycle: day_.cycle,
        split: split_of(day_.cycle),
        seed: day_.seed,
        kernel: told(Command::new("uname").arg("-r")).unwrap_or_default(),
        recorded: told(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])).unwrap_or_default(),
        seconds: SECONDS as f64,
        clock_factor: FACTOR,
        start_unix_ns: clock.unix_ns,
        records,
        lost,
        loss,
        requests: requests(&day_.stage.world_folder()),
        spans,
    };
    cycle.write(&folder.join(format!("{name}.toml")))?;
    Ok(cycle)
}

/// On the first day of a run the host boots while it is recorded, so that every service is seen to start.
fn boot(day: &Day<'_>, clock: Clock) -> anyhow::Result<Vec<Span>> {
    if !day.running.is_empty() {
        return Ok(Vec::new());
    }
    let start = boot_now();
    day.running.start_all(day.stage)?;
    Ok(vec![benign("boot", "init.scope", "every service is started", clock.at(start), clock.at(boot_now()))])
}

fn benign(name: &str, unit: &str, note: &str, start_unix_ns: u64, end_unix_ns: u64) -> Span {
    Span {
        kind: Kind::Benign,
        name: name.to_owned(),
        class: None,
        workload: workload_of(unit),
        start_unix_ns,
        end_unix_ns,
        root_pid: 0,
        root_cookie: 0,
        other_roots: Vec::new(),
        harm_unix_ns: None,
        harm: String::new(),
        note: note.to_owned(),
    }
}

fn wait_until(boot_ns: u64) {
    std::thread::sleep(Duration::from_nanos(boot_ns.saturating_sub(boot_now())));
}

fn carry_out(day: &Day<'_>, act: &Act, clock: Clock) -> anyhow::Result<Option<Span>> {
    let seed = day.seed ^ (act.at * 1000.0) as u64;
    match act.what {
        What::Build => changes::build(day).map(|()| None),
        What::Person(user) => day.person(user, seed, &[]).map(|()| None),
        What::Change(change) => carry_out_change(day, change, clock).map(Some),
        What::Attack(attack) => carry_out_attack(day, attack, seed, clock).map(Some),
    }
}

fn carry_out_change(day: &Day<'_>, change: &Change, clock: Clock) -> anyhow::Result<Span> {
    let start = boot_now();
    (change.run)(day).with_context(|| change.name)?;
    Ok(benign(change.name, change.unit, change.note, clock.at(start), clock.at(boot_now())))
}

#[derive(Deserialize)]
struct Mark {
    mark: String,
    boot_ns: u64,
}

fn carry_out_attack(day: &Day<'_>, attack: &Attack, seed: u64, clock: Clock) -> anyhow::Result<Span> {
    let start = boot_now();
    if attack.cleanup == Cleanup::Preload {
        fs::copy(day.stage.world_folder().join("tools/preload.so"), day.stage.path("/var/tmp/libcache.so"))?;
        day.running.stop(day.stage, API)?;
        day.running.start(day.stage, API, "LD_PRELOAD=/var/tmp/libcache.so")?;
    }
    let output = day
        .stage
        .outside("python3")
        .arg("-B")
        .arg(day.stage.scenarios.join("outside/attacker"))
        .args([attack.name, "--site", &day.stage.address, "--tools", "tools", "--seed", &seed.to_string()])
        .args(["--password", &day.password("alice")])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run the attacker")?;
    changes::clean_up(day, attack).with_context(|| format!("after {}", attack.name))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let marks: Vec<Mark> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let first = |what: &str| marks.iter().find(|mark| mark.mark == what).map(|mark| mark.boot_ns);
    if first("end").is_none() {
        bail!("the attacker ended early in {} ({})", attack.name, output.status);
    }
    let harm = first("harm");
    if harm.is_none() {
        println!("corpus   {} did no harm", attack.name);
    }
    Ok(Span {
        kind: Kind::Attack,
        name: attack.name.to_owned(),
        class: Some(attack.class),
        workload: workload_of(attack.unit),
        start_unix_ns: clock.at(if attack.cleanup == Cleanup::Preload {
            start
        } else {
            first("begin").unwrap_or(start)
        }),
        end_unix_ns: clock.at(boot_now()),
        root_pid: 0,
        root_cookie: 0,
        other_roots: Vec::new(),
        harm_unix_ns: harm.map(|harm| clock.at(harm)),
        harm: attack.harm.to_owned(),
        note: harm.map_or_else(|| "the attack failed: no harm was done".to_owned(), |_| String::new()),
    })
}

/// As the agent names the workload of a unit: templates without their instance.
fn workload_of(unit: &str) -> String {
    match (unit, unit.split_once('@')) {
        (LOGIN, _) => LOGIN.to_owned(),
        ("cron.service", _) => "cron".to_owned(),
        (_, Some((template, _))) => format!("unit:{template}@.service"),
        (_, None) => format!("unit:{unit}"),
    }
}

/// Compiles the attacker's tools into the folder that they are served from.
pub fn make_tools(scenarios: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for program in ["beacon", "scan", "encrypt", "miner", "inject", "escape", "uring", "int80", "probe"] {
        let source = scenarios.join(format!("attacks/{program}.c"));
        compile(&source, &folder.join(program), &["-static", "-no-pie", "-pthread", "-s"])?;
    }
    for library in ["preload", "module", "udf"] {
        let source = scenarios.join(format!("attacks/{library}.c"));
        // The last one travels in pieces of a query: small.
        let small: &[&str] = if library == "udf" { &["-s", "-Wl,-z,noseparate-code"] } else { &[] };
        let flags = [&["-shared", "-fPIC", "-pthread"], small].concat();
        compile(&source, &folder.join(format!("{library}.so")), &flags)?;
    }
    // Nothing but code, for where it is written into another process.
    let bare =
        ["-nostdlib", "-ffreestanding", "-fPIC", "-static", "-Wl,--oformat=binary,-Ttext=0,-e,begin,--build-id=none"];
    compile(&scenarios.join("attacks/hollow.c"), &folder.join("hollow"), &bare)
}

/// Attacks and changes without a recorder, one after the other: does each do what it says?
pub fn rehearse(day: &Day<'_>, whats: &[What]) -> anyhow::Result<()> {
    let clock = Clock { boot_ns: 0, unix_ns: 0, factor: 1.0 };
    day.world.tell(&format!("day {} {SECONDS}", boot_now().saturating_sub(SECONDS * 500_000_000)))?;
    day.running.start_all(day.stage)?;
    for (at, what) in whats.iter().enumerate() {
        match carry_out(day, &Act { at: at as f64, what: *what }, clock) {
            Ok(Some(span)) => {
                let seconds = (span.end_unix_ns - span.start_unix_ns) as f64 / 1e9;
                let harm = span.harm_unix_ns.map_or(0.0, |harm| harm.saturating_sub(span.start_unix_ns) as f64 / 1e9);
                println!("corpus   {:<28} {seconds:5.1} s, harm at {harm:5.2} s  {}", span.name, span.note);
            }
            Ok(None) => (),
            Err(error) => println!("corpus   {error:#}"),
        }
    }
    Ok(())
}

fn requests(world: &Path) -> [u64; 2] {
    let text = fs::read_to_string(world.join("world.jsonl")).unwrap_or_default();
    let last: serde_json::Value =
        text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    [last["served"].as_u64().unwrap_or(0), last["failed"].as_u64().unwrap_or(0)]
}

fn compress(from: &Path, to: &PathBuf) -> anyhow::Result<()> {
    let mut input = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let output = File::create(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut packed = flate2::write::GzEncoder::new(output, flate2::Compression::best());
    std::io::copy(&mut input, &mut packed)?;
    packed.finish()?;
    Ok(())
}
