//! The eight coordinates in one table: what each is, its unit, how it is computed and where. The page `docs/coordinates.md`
//! and the names in explanations come from here.

use std::fmt::Write;

use crate::features::{COORDINATES, Coordinate};

/// What there is to say about a coordinate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schema {
    /// Which.
    pub coordinate: Coordinate,
    /// Its short name, in explanations and journals.
    pub name: &'static str,
    /// What it answers, in one question.
    pub question: &'static str,
    /// Records that raise it.
    pub from: &'static str,
    /// What is measured, before the transform.
    pub unit: &'static str,
    /// How that becomes bits.
    pub transform: &'static str,
    /// Where that is done.
    pub computed: &'static str,
    /// Bits that some input reaches whatever was learnt before: what no threshold may lie beyond.
    pub attainable: f64,
}

/// Back-off of a fact, for the table.
const WITTEN_BELL: &str = "Witten–Bell: workload and program → program on this host → base of the family";
/// One-sided surprise of a number, for the table.
const ONE_SIDED: &str = "−log2 of the share that was this large or larger, pooled with the host; beyond the largest one \
                         bit a doubling";
const FACTS: &str = "model/src/counts.rs";
const NUMBERS: &str = "model/src/numeric.rs";

/// The coordinates, in the order of their numbers.
pub const SCHEMA: [Schema; COORDINATES] = [
    Schema {
        coordinate: Coordinate::Seq,
        name: "seq",
        question: "Does this program call the kernel in this order?",
        from: "window",
        unit: "distinct trigrams of calls in a window of at most 128",
        transform: "mean of the eight most surprising, Witten–Bell of order three; few trigrams count as eight",
        computed: "model/src/sequence.rs",
        // Calls that neither the program nor the host ever made, from a base of 512 equally likely ones.
        attainable: 9.0,
    },
    Schema {
        coordinate: Coordinate::Priv,
        name: "priv",
        question: "Does it make calls that are rare in any program?",
        from: "window",
        unit: "distinct trigger calls with their argument classes",
        transform: "sum over the calls of a window, each Witten–Bell: workload and program → program on this host → 2^−8",
        computed: FACTS,
        // Two calls that a program of a new name makes.
        attainable: 16.0,
    },
    Schema {
        coordinate: Coordinate::Lineage,
        name: "lineage",
        question: "Does this start that, from a file, as this user?",
        from: "exec",
        unit: "exec edges, programs without a file, sockets as input or output, changes of user",
        transform: WITTEN_BELL,
        computed: FACTS,
        // A program of a new name that has no file.
        attainable: 20.0,
    },
    Schema {
        coordinate: Coordinate::File,
        name: "file",
        question: "Does it read, write, start or delete there, and so much at once?",
        from: "file",
        unit: "directories with the way of use, sensitive files, files touched in ten seconds",
        transform: WITTEN_BELL,
        computed: FACTS,
        // A sensitive file, used by a program of a new name.
        attainable: 10.0,
    },
    Schema {
        coordinate: Coordinate::Net,
        name: "net",
        question: "Does it talk to that address, and serve that port?",
        from: "flow",
        unit: "destinations with their ports and networks, ports served; addresses of clients never count",
        transform: "Witten–Bell, a destination at most as much as its port and its network together",
        computed: FACTS,
        // A destination of a program of a new name.
        attainable: 8.0,
    },
    Schema {
        coordinate: Coordinate::Fanout,
        name: "fanout",
        question: "To how many at once?",
        from: "flow",
        unit: "different destinations of a process subtree in a minute",
        transform: ONE_SIDED,
        computed: NUMBERS,
        // Counted up to 256: a scanner's workload may have seen all of it.
        attainable: 0.0,
    },
    Schema {
        coordinate: Coordinate::Volume,
        name: "volume",
        question: "How much goes out, in and through?",
        from: "flow, window",
        unit: "bytes that a flow has sent; bytes that a window has read and written",
        transform: ONE_SIDED,
        computed: NUMBERS,
        // Not judged before a workload has shown thirty numbers.
        attainable: 0.0,
    },
    Schema {
        coordinate: Coordinate::Error,
        name: "error",
        question: "How much of it fails?",
        from: "window",
        unit: "failed calls per 128; calls refused for lack of permission per 128",
        transform: ONE_SIDED,
        computed: NUMBERS,
        // There are workloads in which every call fails.
        attainable: 0.0,
    },
];

impl Coordinate {
    /// What there is to say about it.
    pub fn schema(self) -> &'static Schema {
        &SCHEMA[self as usize]
    }

    /// Name.
    pub fn name(self) -> &'static str {
        self.schema().name
    }
}

/// The documentation page of the table, in Markdown.
pub fn page() -> String {
    let mut page = String::from(
        "# The eight coordinates\n\nWritten from `model/src/schema.rs`; `STOCKADE_BLESS=1 cargo test -p model --test \
         coordinates` writes it anew.\n\nEvery event becomes a point with these coordinates. All are surprise in bits, from 0 \
         up, higher = more anomalous, and low values\nare never anomalous: the forest lifts them to the median of its rows. A \
         point that is scored joins the events of its subtree's last ten to\ntwenty seconds, coordinate by coordinate, by the \
         larger one.\n\n| | name | answers | from | unit | transform | computed in |\n|---|---|---|---|---|---|---|\n",
    );
    for (number, row) in SCHEMA.iter().enumerate() {
        let Schema { name, question, from, unit, transform, computed, .. } = row;
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| {number} | `{name}` | {question} | {from} | {unit} | {transform} | `{computed}` |");
    }
    page.push_str(
        "\nSome input reaches at least so many bits, whatever was learnt before; a threshold that lies beyond all of them is \
         *unreachable* and\ndisarms the agent (`model/src/health.rs`):\n\n",
    );
    let reach = SCHEMA.iter().map(|row| format!("{} {}", row.name, row.attainable)).collect::<Vec<_>>().join(", ");
    let _ = writeln!(page, "{reach}.");
    page
}
