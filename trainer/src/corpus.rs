//! A corpus: hosts, and of each host its days in order, on one clock.
//!
//! Every cycle was recorded by itself, so their clocks may overlap. They are put one behind the other by whole days of event
//! time, so that hours stay what they were, and by as much boot time as lets every episode of the day before close.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use model::event::{Event, Process, Time};
use sha2::{Digest, Sha256};

use crate::journal::Journal;
use crate::labels::{Cycle, Kind, Span, Split};

const DAY: u64 = 86_400_000_000_000;
/// Event time per boot time when a day takes an hour.
const HOURS: f64 = 24.0;
/// Boot time between two cycles: longer than an episode stays open without news.
const PAUSE: u64 = 600_000_000_000;

/// Every host's days.
#[derive(Debug)]
pub struct Corpus {
    /// By name.
    pub hosts: BTreeMap<String, Vec<Day>>,
    /// Hash over all journals and labels.
    pub hash: String,
}

/// A day of a host.
#[derive(Clone, Debug)]
pub struct Day {
    /// Its events.
    pub journal: Journal,
    /// What was done.
    pub cycle: Cycle,
    /// Added to every event's and label's time.
    shift: Time,
    /// Boot clock at its beginning, and how much slower its boot clock is made to pass.
    stretch: (u64, f64),
    /// Its events as recorded, when they are kept.
    kept: Option<Arc<[Event]>>,
}

impl Corpus {
    /// Opens `DIR/HOST/cycle-NN.parquet` with its labels.
    ///
    /// # Errors
    ///
    /// When a journal or its labels are missing or damaged, or the folder holds none.
    pub fn open(journals: &Path, labels: Option<&Path>) -> anyhow::Result<Self> {
        let mut found: BTreeMap<String, Vec<(PathBuf, PathBuf, Cycle)>> = BTreeMap::new();
        for path in parquet_files(journals)? {
            let beside = labels_of(&path, journals, labels);
            if !beside.exists() {
                bail!(
                    "{} has no labels at {}: --labels DIR says where they are; of days of your own, a file with the \
                     lines host = \"NAME\", cycle = 1 (counting up) and split = \"train\" is enough to learn from",
                    path.display(),
                    beside.display()
                );
            }
            let cycle = Cycle::read(&beside)?;
            found.entry(cycle.host.clone()).or_default().push((path, beside, cycle));
        }
        if found.is_empty() {
            bail!("{} holds no journals: `cargo xtask corpus journal` makes them", journals.display());
        }
        let mut hash = Sha256::new();
        let mut hosts = BTreeMap::new();
        for (host, mut cycles) in found {
            cycles.sort_by_key(|(_, _, cycle)| (cycle.split, cycle.cycle));
            let mut days = Vec::new();
            for (path, beside, cycle) in cycles {
                for file in [&path, &beside] {
                    hash_file(&mut hash, file)?;
                }
                days.push(Day {
                    journal: Journal::open(&path)?,
                    cycle,
                    shift: Time::default(),
                    stretch: (0, 1.0),
                    kept: None,
                });
            }
            put_in_order(&mut days)?;
            hosts.insert(host, days);
        }
        Ok(Self { hosts, hash: hex(&hash.finalize()) })
    }

    /// Makes the boot clock of every day pass slower: by a factor, or so that a day takes an hour of it. A day that was
    /// recorded in minutes is shorter than an episode stays open, and evidence of its morning would add up with that of its
    /// evening.
    ///
    /// # Errors
    ///
    /// When a journal cannot be read, or the factor is no number of at least 1.
    pub fn stretch(&mut self, wanted: Option<f64>) -> anyhow::Result<()> {
        if let Some(factor) = wanted.filter(|factor| !(1.0..=1e6).contains(factor)) {
            bail!("a boot clock cannot be stretched by {factor}: 1 leaves it as it is");
        }
        for days in self.hosts.values_mut() {
            for day in days.iter_mut() {
                let factor = wanted.unwrap_or((day.cycle.clock_factor / HOURS).max(1.0));
                day.shift = Time::default();
                day.stretch = (day.extent()?.0.boot_ns, factor);
            }
            put_in_order(days)?;
        }
        Ok(())
    }

    /// Keeps all events in memory, some 700 bytes each: decoding them is a fourth of a pass, and an evaluation makes many.
    ///
    /// # Errors
    ///
    /// When a journal is damaged.
    pub fn keep(&mut self) -> anyhow::Result<()> {
        for day in self.hosts.values_mut().flatten() {
            let mut processes: BTreeMap<u64, Arc<Process>> = BTreeMap::new();
            let events = day.journal.events().map(|event| {
                let mut event = event?;
                // Most events are of a process that is as it was: one of it is enough.
                let known = processes.entry(event.process.cookie).or_insert_with(|| event.process.clone());
                if *known == event.process {
                    event.process = known.clone();
                } else {
                    *known = event.process.clone();
                }
                Ok(event)
            });
            day.kept = Some(events.collect::<anyhow::Result<_>>()?);
        }
        Ok(())
    }

    /// The same days, those of a split so many times over: whoever asks how long something takes needs more of them. Each
    /// lies behind the one before it, and each repetition has the cookies of the first.
    ///
    /// # Errors
    ///
    /// When a journal cannot be read.
    pub fn repeated(&self, split: Split, times: usize) -> anyhow::Result<Self> {
        let mut hosts = self.hosts.clone();
        for days in hosts.values_mut() {
            let again: Vec<Day> = days.iter().filter(|day| day.cycle.split == split).cloned().collect();
            (1..times).for_each(|_| days.extend(again.iter().cloned()));
            put_in_order(days)?;
        }
        Ok(Self { hosts, hash: self.hash.clone() })
    }

    /// The largest factor by which a day's boot clock is stretched.
    pub fn stretched(&self) -> f64 {
        self.days().map(|day| day.stretch.1).fold(1.0, f64::max)
    }

    /// All days.
    pub fn days(&self) -> impl Iterator<Item = &Day> {
        self.hosts.values().flatten()
    }

    /// Days of a split, all hosts together.
    pub fn host_days(&self, split: Split) -> usize {
        self.days().filter(|day| day.cycle.split == split).count()
    }
}

impl Day {
    /// Its events, on the corpus' clock.
    pub fn events(&self) -> impl Iterator<Item = anyhow::Result<Event>> + '_ {
        let shifted = |mut event: Event| {
            event.at = self.shifted(event.at);
            event
        };
        let kept = self.kept.iter().flat_map(|kept| kept.iter().cloned().map(Ok));
        let read = self.kept.is_none().then(|| self.journal.events().map(|event| Ok(event?)));
        kept.chain(read.into_iter().flatten()).map(move |event: anyhow::Result<Event>| event.map(shifted))
    }

    /// Its spans of a kind, on the corpus' clock.
    pub fn spans(&self, kind: Kind) -> impl Iterator<Item = Span> + '_ {
        self.cycle.spans.iter().filter(move |span| span.kind == kind).map(|span| {
            let shifted = |ns: u64| ns.saturating_add(self.shift.unix_ns);
            Span {
                start_unix_ns: shifted(span.start_unix_ns),
                end_unix_ns: shifted(span.end_unix_ns),
                harm_unix_ns: span.harm_unix_ns.map(shifted),
                ..span.clone()
            }
        })
    }

    /// First and last moment on the corpus' clock.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn lasts(&self) -> anyhow::Result<(Time, Time)> {
        let (first, last) = self.extent()?;
        Ok((self.shifted(first), self.shifted(last)))
    }

    /// `web/3`.
    pub fn name(&self) -> Arc<str> {
        format!("{}/{}", self.cycle.host, self.cycle.cycle).into()
    }

    fn shifted(&self, at: Time) -> Time {
        let (begin, factor) = self.stretch;
        let stretched = match factor {
            1.0 => at.boot_ns,
            _ => begin.saturating_add((at.boot_ns.saturating_sub(begin) as f64 * factor) as u64),
        };
        Time {
            unix_ns: at.unix_ns.saturating_add(self.shift.unix_ns),
            boot_ns: stretched.saturating_add(self.shift.boot_ns),
        }
    }

    /// First and last moment, on both clocks, as recorded.
    fn extent(&self) -> anyhow::Result<(Time, Time)> {
        let (unix, boot) = (self.journal.extent("unix_ns")?, self.journal.extent("boot_ns")?);
        Ok((Time { unix_ns: unix.0, boot_ns: boot.0 }, Time { unix_ns: unix.1, boot_ns: boot.1 }))
    }
}

fn put_in_order(days: &mut [Day]) -> anyhow::Result<()> {
    let mut end = Time::default();
    for day in days {
        let (first, last) = day.extent()?;
        if end == Time::default() {
            end = day.shifted(last);
            continue;
        }
        let late = end.unix_ns.saturating_sub(first.unix_ns);
        day.shift.unix_ns = late.div_ceil(DAY) * DAY;
        day.shift.boot_ns = (end.boot_ns + PAUSE).saturating_sub(first.boot_ns);
        end = day.shifted(last);
    }
    Ok(())
}

/// The labels of a journal: beside it, or in the same place below another folder.
fn labels_of(journal: &Path, journals: &Path, labels: Option<&Path>) -> PathBuf {
    let own = journal.with_extension("toml");
    match (labels, own.strip_prefix(journals)) {
        (Some(labels), Ok(below)) if !own.exists() => labels.join(below),
        _ => own,
    }
}

fn parquet_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut open = vec![folder.to_path_buf()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot look into {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn hash_file(hash: &mut Sha256, path: &Path) -> anyhow::Result<()> {
    let mut file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    std::io::copy(&mut file, hash).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(())
}

/// As `sha256sum` writes it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
