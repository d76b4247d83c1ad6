//! The handle of a recorded host's pid 1 (`datasets/scenarios/stage/init.c`): starts programs, hears when they end.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

#[derive(Debug, Default)]
struct Heard {
    ready: bool,
    gone: bool,
    exited: HashMap<u64, i32>,
}

#[derive(Default)]
struct Board {
    heard: Mutex<Heard>,
    changed: Condvar,
}

impl Board {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` finds something.
    fn wait<T>(&self, patience: Duration, mut look: impl FnMut(&mut Heard) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut heard = self.heard();
        loop {
            if let Some(found) = look(&mut heard) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|_| !heard.gone)?;
            heard = self.changed.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running pid 1.
pub struct Init {
    child: Child,
    pid: u32,
    input: Mutex<Option<ChildStdin>>,
    board: Arc<Board>,
    next: AtomicU64,
}

/// A program that was started.
#[derive(Clone, Copy, Debug)]
pub struct Job(u64);

impl Init {
    /// Makes the host's namespaces and waits until its pid 1 listens.
    pub fn start(program: &Path, name: &str, netns: &Path, cgroup: &Path, overlay: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg(name)
            .args([netns, cgroup, overlay])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let input = Mutex::new(child.stdin.take());
        let board = Arc::new(Board::default());
        std::thread::spawn({
            let board = board.clone();
            move || listen(output, &board)
        });
        if board.wait(Duration::from_secs(10), |heard| heard.ready.then_some(())).is_none() {
            let _ = child.kill();
            let _ = child.wait();
            bail!("the host's pid 1 did not come up: see above for what it could not do");
        }
        let scope = std::fs::read_to_string(cgroup.join("init.scope/cgroup.procs"))?;
        let pid = scope.trim().parse().context("the host's pid 1 is not in its cgroup")?;
        Ok(Self { child, pid, input, board, next: AtomicU64::new(1) })
    }

    /// Its pid on this machine.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Starts a program in a cgroup as a user, with its output in a log named after the unit.
    pub fn start_job(&self, cgroup: &str, user: &str, environment: &str, argv: &[&str]) -> anyhow::Result<Job> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let unit = cgroup.rsplit('/').next().unwrap_or(cgroup);
        let (id_text, log) = (id.to_string(), format!("/var/log/{unit}.log"));
        let mut fields = vec!["start", &id_text, cgroup, user, "/", &log, environment];
        fields.extend(argv);
        if fields.iter().any(|field| field.contains(['\n', '\x1f'])) {
            bail!("an argument of {argv:?} holds a line break");
        }
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = input.as_mut().context("the host has ended")?;
        writeln!(pipe, "{}", fields.join("\x1f")).context("the host's pid 1 is gone")?;
        Ok(Job(id))
    }

    /// The status with which a program ended; `None` when it still runs.
    pub fn wait(&self, job: Job, patience: Duration) -> Option<i32> {
        self.board.wait(patience, |heard| heard.exited.remove(&job.0))
    }

    /// Runs a program to its end.
    pub fn run(&self, cgroup: &str, user: &str, argv: &[&str], patience: Duration) -> anyhow::Result<i32> {
        let job = self.start_job(cgroup, user, "", argv)?;
        self.wait(job, patience).with_context(|| format!("{argv:?} did not end within {patience:?}"))
    }

    /// Ends the host: everything in it goes with its pid 1.
    pub fn end(&mut self) {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        super::stage::wait_for(&mut self.child, Duration::from_secs(5));
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        self.end();
    }
}

fn listen(output: impl BufRead, board: &Board) {
    for line in output.lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let mut heard = board.heard();
        match words[..] {
            ["ready"] => heard.ready = true,
            ["exited", id, status] => {
                if let (Ok(id), Ok(status)) = (id.parse(), status.parse()) {
                    heard.exited.insert(id, status);
                }
            }
            _ => (),
        }
        board.changed.notify_all();
    }
    board.heard().gone = true;
    board.changed.notify_all();
}
