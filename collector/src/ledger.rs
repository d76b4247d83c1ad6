//! Sent = decoded + rejected + lost, per kind of record; calls seen = recorded + skipped + missed
//! (+ no storage) + open.
//!
//! The kernel counts what its programs tried to write ([`Stats`]); this is the other half. [`Ledger::reconcile`] lays both
//! side by side: what does not add up is shown as such and never folded into another column.

use std::collections::BTreeMap;
use std::fmt;

use collector_common::Kind;
use collector_common::stats::{Program, Stats};
use collector_common::syscall::Why;
use serde::Serialize;

use crate::decode::{Record, Reject, announced_kind, kind_written_by};

const KINDS: [Kind; 7] = [Kind::Fork, Kind::Exec, Kind::Exit, Kind::Window, Kind::Flow, Kind::Deny, Kind::File];
const NAMES: [&str; 7] = ["fork", "exec", "exit", "window", "flow", "deny", "file"];

fn index(kind: Kind) -> usize {
    kind as usize - 1
}

/// What happened to the records of one kind in user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Good records that the kernel wrote.
    pub decoded: u64,
    /// Records whose bytes were refused.
    pub rejected: u64,
    /// Records made here from `/proc` for processes older than the agent; no program counted them.
    pub synthesised: u64,
    /// Events made from them.
    pub enriched: u64,
    /// Events whose process is not known (executable `?`).
    pub unattributed: u64,
}

/// The user half of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    counts: [Counts; 7],
    rejects: BTreeMap<&'static str, u64>,
    kindless: u64,
    channel_drops: BTreeMap<&'static str, u64>,
    calls: u64,
    windows_at_exec: u64,
    windows_at_exit: u64,
}

impl Ledger {
    /// A record passed [`crate::decode::decode`], or was synthesised.
    pub fn decoded(&mut self, record: &Record) {
        let counts = &mut self.counts[index(record.kind())];
        if record.is_synthesised() {
            counts.synthesised += 1;
            return;
        }
        counts.decoded += 1;
        if let Record::Window(window) = record {
            self.windows_at_exec += u64::from(window.why == Why::Exec as u8);
            self.windows_at_exit += u64::from(window.why == Why::Exit as u8);
            // An early or idle window goes on filling: its calls come again in the window that closes it.
            let comes_again = window.why == Why::Early as u8 || window.why == Why::Idle as u8;
            self.calls += if comes_again { 0 } else { u64::from(window.n) };
        }
    }

    /// Bytes were refused.
    pub fn rejected(&mut self, reject: &Reject, bytes: &[u8]) {
        *self.rejects.entry(reject.name()).or_default() += 1;
        match announced_kind(bytes) {
            Some(kind) => self.counts[index(kind)].rejected += 1,
            None => self.kindless += 1,
        }
    }

    /// An event was made from a record of this kind; `attributed` says whether its process is known.
    pub fn enriched(&mut self, kind: Kind, attributed: bool) {
        let counts = &mut self.counts[index(kind)];
        counts.enriched += 1;
        counts.unattributed += u64::from(!attributed);
    }

    /// A bounded channel was full and `items` were dropped before the stage it leads to.
    pub fn dropped(&mut self, channel: &'static str, items: u64) {
        *self.channel_drops.entry(channel).or_default() += items;
    }

    /// Counts of one kind.
    pub fn counts(&self, kind: Kind) -> Counts {
        self.counts[index(kind)]
    }

    /// Refused records by [`Reject::name`].
    pub fn rejects(&self) -> &BTreeMap<&'static str, u64> {
        &self.rejects
    }

    /// Items dropped at full channels, by channel.
    pub fn channel_drops(&self) -> &BTreeMap<&'static str, u64> {
        &self.channel_drops
    }

    /// Adds another ledger's counts, for stages that count on their own thread.
    pub fn add(&mut self, other: &Ledger) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            mine.decoded += theirs.decoded;
            mine.rejected += theirs.rejected;
            mine.synthesised += theirs.synthesised;
            mine.enriched += theirs.enriched;
            mine.unattributed += theirs.unattributed;
        }
        for (name, count) in &other.rejects {
            *self.rejects.entry(name).or_default() += count;
        }
        for (name, count) in &other.channel_drops {
            *self.channel_drops.entry(name).or_default() += count;
        }
        self.kindless += other.kindless;
        self.calls += other.calls;
        self.windows_at_exec += other.windows_at_exec;
        self.windows_at_exit += other.windows_at_exit;
    }

    /// Lays the kernel's statistics, one row per program and CPU, beside this half.
    ///
    /// While programs run, a record may be in the ring and in neither half's last column: it is shown as `in_flight`. After
    /// the programs were detached and the rings drained, every `in_flight` is 0, or the ledger does not close.
    pub fn reconcile(&self, kernel: &[(Program, u32, Stats)]) -> Reconciliation {
        let mut rows: Vec<Row> = KINDS.iter().zip(NAMES).map(|(kind, name)| self.row(name, *kind, kernel)).collect();
        if self.kindless > 0 {
            rows.push(Row {
                name: "unknown",
                rejected: self.kindless,
                in_flight: -(self.kindless as i64),
                ..Row::default()
            });
        }
        Reconciliation { rows, calls: self.calls(kernel), storage: storage(kernel) }
    }

    /// What the programs of a kind sent, beside what was read of that kind.
    ///
    /// Windows that exec and exit close are sent by those programs where they count calls of their own; then they stand in
    /// the window's row all the same, with the attempts that they took.
    fn row(&self, name: &'static str, kind: Kind, kernel: &[(Program, u32, Stats)]) -> Row {
        let stats = sum(kernel, |program| kind_written_by(program) == Some(kind));
        let counts = self.counts(kind);
        let by_others = |program: Program, windows: u64| if writes_windows(kernel, program) { windows } else { 0 };
        let at_exec = by_others(Program::Exec, self.windows_at_exec);
        let at_exit = by_others(Program::Exit, self.windows_at_exit);
        let sent = match kind {
            Kind::Exec => stats.attempted.saturating_sub(at_exec),
            Kind::Exit => stats.attempted.saturating_sub(at_exit),
            Kind::Window => stats.attempted + at_exec + at_exit,
            _ => stats.attempted,
        };
        let Counts { decoded, rejected, enriched, unattributed, synthesised } = counts;
        let in_flight = sent as i64 - (decoded + rejected + stats.ring_full) as i64;
        Row { name, sent, decoded, rejected, lost: stats.ring_full, in_flight, enriched, unattributed, synthesised }
    }

    fn calls(&self, kernel: &[(Program, u32, Stats)]) -> Calls {
        let Stats { seen, skipped, missed, no_storage, .. } = sum(kernel, |program| program == Program::Syscall);
        // Whoever closes a window counts its calls.
        let recorded = sum(kernel, |program| writes_windows(kernel, program)).recorded;
        let open = seen as i64 - (recorded + skipped + missed + no_storage) as i64;
        Calls { seen, recorded, skipped, missed, no_storage, open, decoded: self.calls }
    }
}

/// Only programs that write windows record calls.
fn writes_windows(kernel: &[(Program, u32, Stats)], program: Program) -> bool {
    kernel.iter().any(|(other, _, stats)| *other == program && stats.recorded > 0)
}

fn sum(kernel: &[(Program, u32, Stats)], wanted: impl Fn(Program) -> bool) -> Stats {
    kernel.iter().filter(|(program, _, _)| wanted(*program)).fold(Stats::default(), |sum, (_, _, row)| Stats {
        attempted: sum.attempted + row.attempted,
        ring_full: sum.ring_full + row.ring_full,
        seen: sum.seen + row.seen,
        recorded: sum.recorded + row.recorded,
        skipped: sum.skipped + row.skipped,
        missed: sum.missed + row.missed,
        no_storage: sum.no_storage + row.no_storage,
        map_full: sum.map_full + row.map_full,
        unattributed: sum.unattributed + row.unattributed,
        throttled: sum.throttled + row.throttled,
    })
}

fn storage(kernel: &[(Program, u32, Stats)]) -> Storage {
    let all = sum(kernel, |_| true);
    Storage {
        no_storage: all.no_storage,
        map_full: all.map_full,
        unattributed: all.unattributed,
        throttled: all.throttled,
        recursion: 0,
    }
}

/// One kind of record: `sent = decoded + rejected + lost + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `fork`, `exec`, `exit`, `window`, `flow`, `deny`, or `unknown` for rejected bytes without a kind.
    pub name: &'static str,
    /// Records that the programs tried to write.
    pub sent: u64,
    /// Read and good.
    pub decoded: u64,
    /// Read and refused.
    pub rejected: u64,
    /// Did not fit into the ring.
    pub lost: u64,
    /// Written and not read yet; not 0 after the rings were drained means that records went missing (or, negative, appeared).
    pub in_flight: i64,
    /// Events made.
    pub enriched: u64,
    /// Events without a known process.
    pub unattributed: u64,
    /// Records made here from `/proc`.
    pub synthesised: u64,
}

/// Syscalls: `seen = recorded + skipped + missed + no_storage + open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Reached the program.
    pub seen: u64,
    /// In windows that were written.
    pub recorded: u64,
    /// Left out on purpose.
    pub skipped: u64,
    /// Overwritten while the ring was full.
    pub missed: u64,
    /// Could not be kept: no task storage.
    pub no_storage: u64,
    /// In windows that are still open: the rest. Negative: the kernel's own counters contradict each other.
    pub open: i64,
    /// In windows that were decoded here; differs from `recorded` by those in flight and rejected.
    pub decoded: u64,
}

/// What the kernel could not keep, all programs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// Task or socket storage could not be had.
    pub no_storage: u64,
    /// A map was full.
    pub map_full: u64,
    /// Owner or lineage not known.
    pub unattributed: u64,
    /// Early windows held back; their windows came later.
    pub throttled: u64,
    /// Times that the kernel did not run a program because it would have interrupted itself; not seen by any counter above.
    pub recursion: u64,
}

/// Both halves of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    /// One per kind of record.
    pub rows: Vec<Row>,
    /// The syscall program's own balance.
    pub calls: Calls,
    /// What could not be kept.
    pub storage: Storage,
}

impl Reconciliation {
    /// All kinds together.
    pub fn total(&self) -> Row {
        self.rows.iter().fold(Row { name: "all", ..Row::default() }, |sum, row| Row {
            name: "all",
            sent: sum.sent + row.sent,
            decoded: sum.decoded + row.decoded,
            rejected: sum.rejected + row.rejected,
            lost: sum.lost + row.lost,
            in_flight: sum.in_flight + row.in_flight,
            enriched: sum.enriched + row.enriched,
            unattributed: sum.unattributed + row.unattributed,
            synthesised: sum.synthesised + row.synthesised,
        })
    }

    /// Nothing is in flight and nothing is unexplained: true only after the rings were drained.
    pub fn closes(&self) -> bool {
        self.rows_balance() && self.calls.open >= 0
    }

    /// Every record that was sent is decoded, rejected or lost. A record whose kind byte was damaged stands in the row
    /// `unknown` and is missing from its own, so only the sum of all rows has to balance then.
    fn rows_balance(&self) -> bool {
        let damaged = self.rows.iter().any(|row| row.name == "unknown");
        if damaged { self.total().in_flight == 0 } else { self.rows.iter().all(|row| row.in_flight == 0) }
    }
}

impl fmt::Display for Reconciliation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in self.rows.iter().chain([&self.total()]) {
            let Row { name, sent, decoded, rejected, lost, in_flight, .. } = row;
            write!(out, "{name:<8} sent {sent} = decoded {decoded} + rejected {rejected} + lost {lost}")?;
            if *in_flight != 0 {
                write!(out, " + in flight {in_flight}")?;
            }
            if row.unattributed > 0 {
                write!(out, "   ({} of {} without a known process)", row.unattributed, row.enriched)?;
            }
            writeln!(out)?;
        }
        let Calls { seen, recorded, skipped, missed, no_storage, open, .. } = self.calls;
        write!(out, "calls    seen {seen} = recorded {recorded} + skipped {skipped} + missed {missed}")?;
        if no_storage > 0 {
            write!(out, " + no storage {no_storage}")?;
        }
        writeln!(out, " + open {open}")?;
        let Storage { no_storage, map_full, unattributed, throttled, recursion } = self.storage;
        if no_storage + map_full + unattributed + throttled + recursion > 0 {
            write!(out, "kernel   storage refused {no_storage}, map full {map_full}, owner unknown {unattributed}")?;
            writeln!(out, ", early windows held back {throttled}, programs not run {recursion}")?;
        }
        let verdict = if self.closes() { "closes" } else { "DOES NOT CLOSE" };
        write!(out, "ledger   {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use collector_common::process::{EXEC_PRE_EXISTING, Exec, Fork};
    use collector_common::syscall::Window;

    use super::*;

    fn stats(attempted: u64, ring_full: u64) -> Stats {
        Stats { attempted, ring_full, ..Stats::default() }
    }

    fn fork() -> Record {
        Record::Fork(Fork::default())
    }

    fn window(why: Why, n: u16) -> Record {
        Record::Window(Box::new(Window { why: why as u8, n, ..Window::default() }))
    }

    #[test]
    fn closes_when_every_record_is_decoded_rejected_or_lost() {
        let mut ledger = Ledger::default();
        for _ in 0..5 {
            ledger.decoded(&fork());
        }
        ledger.rejected(&Reject::WrongAbi(9), &[1, 9]);
        let kernel = [(Program::Fork, 0, stats(4, 1)), (Program::Fork, 1, stats(4, 1))];
        let both = ledger.reconcile(&kernel);
        assert_eq!((both.rows[0].sent, both.rows[0].lost, both.rows[0].in_flight), (8, 2, 0));
        assert!(both.closes());
        assert!(both.to_string().contains("sent 8 = decoded 5 + rejected 1 + lost 2\n"), "{both}");
        assert!(both.to_string().ends_with("ledger   closes"));
    }

    #[test]
    fn a_missing_record_shows_in_its_own_row() {
        let mut ledger = Ledger::default();
        ledger.decoded(&fork());
        let both = ledger.reconcile(&[(Program::Fork, 0, stats(2, 0))]);
        assert_eq!(both.rows[0].in_flight, 1);
        assert!(!both.closes());
        assert!(both.to_string().contains("+ in flight 1"));
    }

    #[test]
    fn one_kind_may_not_hide_the_loss_of_another() {
        let mut ledger = Ledger::default();
        ledger.decoded(&fork());
        ledger.decoded(&fork());
        let kernel = [(Program::Fork, 0, stats(1, 0)), (Program::Exit, 0, stats(1, 0))];
        assert_eq!(ledger.reconcile(&kernel).total().in_flight, 0);
        assert!(!ledger.reconcile(&kernel).closes());
    }

    #[test]
    fn a_damaged_kind_byte_is_balanced_in_the_sum() {
        let mut ledger = Ledger::default();
        ledger.rejected(&Reject::UnknownKind(77), &[77]);
        let both = ledger.reconcile(&[(Program::Fork, 0, stats(1, 0))]);
        assert!(both.closes(), "{both}");
    }

    #[test]
    fn synthesised_records_are_not_counted_as_sent() {
        let mut ledger = Ledger::default();
        ledger.decoded(&Record::Exec(Box::new(Exec { bits: EXEC_PRE_EXISTING, ..Exec::default() })));
        let both = ledger.reconcile(&[]);
        assert_eq!((both.rows[1].decoded, both.rows[1].synthesised), (0, 1));
        assert!(both.closes());
    }

    #[test]
    fn calls_of_an_early_window_count_once() {
        let mut ledger = Ledger::default();
        ledger.decoded(&window(Why::Early, 40));
        ledger.decoded(&window(Why::Full, 128));
        let row =
            Stats { attempted: 2, seen: 153, recorded: 128, skipped: 10, missed: 2, no_storage: 3, ..Stats::default() };
        let calls = ledger.reconcile(&[(Program::Syscall, 0, row)]).calls;
        assert_eq!((calls.decoded, calls.recorded, calls.open), (128, 128, 10));
    }

    #[test]
    fn windows_that_exec_and_exit_close_are_windows_whoever_sent_them() {
        let mut ledger = Ledger::default();
        ledger.decoded(&Record::Exec(Box::default()));
        ledger.decoded(&window(Why::Exec, 10));
        ledger.decoded(&window(Why::Exit, 5));
        ledger.decoded(&window(Why::Full, 128));
        let calls = |attempted: u64, seen: u64, recorded: u64| Stats { attempted, seen, recorded, ..Stats::default() };
        let own_rows = [
            (Program::Exec, 0, calls(2, 1, 10)),
            (Program::Exit, 0, calls(1, 1, 5)),
            (Program::Syscall, 0, calls(1, 143, 128)),
        ];
        let one_row = [(Program::Exec, 0, calls(1, 1, 0)), (Program::Syscall, 0, calls(3, 143, 143))];
        for kernel in [&own_rows[..], &one_row[..]] {
            let both = ledger.reconcile(kernel);
            assert!(both.closes(), "{both}");
            assert_eq!((both.rows[3].sent, both.calls.recorded, both.calls.open), (3, 143, 0));
        }
    }

    #[test]
    fn ledgers_of_two_threads_add_up() {
        let mut one = Ledger::default();
        one.decoded(&fork());
        one.dropped("windows to kafka", 3);
        let mut other = Ledger::default();
        other.decoded(&fork());
        other.enriched(Kind::Fork, false);
        other.dropped("windows to kafka", 4);
        one.add(&other);
        assert_eq!(one.counts(Kind::Fork), Counts { decoded: 2, enriched: 1, unattributed: 1, ..Counts::default() });
        assert_eq!(one.channel_drops()["windows to kafka"], 7);
    }
}
