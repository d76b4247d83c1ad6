//! What the model costs a record, on one core.
//!
//! The forest on plain rows beside a fixed reference in the same run: 64 trees of f64 cuts behind pointers, each node with a
//! column of its own, as a first draft would have them. All take turns within each round, and what counts is the ratio. Then
//! the whole judge on made-up events, in nanoseconds: everything from the event to its explained verdict, learning included.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use linfa::traits::Fit;
use linfa::{Dataset, ParamGuard};
use model::forest::{Forest, ForestParams};
use model::quantiser::Quantiser;
use model::random::Random;
use model::stream::OnlineForest;
use model::{Params, Standing};
use ndarray::{Array2, ArrayView1};
use support::World;

const TREES: usize = 64;
const SAMPLE: usize = 256;
const COLUMNS: usize = 8;
const ROWS: usize = 2_048;
const ROUNDS: usize = 300;
/// Made-up seconds that the judge is timed for, after the ninety that it learns from.
const SECONDS: usize = 3_000;
/// What is left of each of them: a hundredth of what a host has between its events.
const PAUSE: Duration = Duration::from_millis(5);

fn main() {
    forest();
    judge("caches cold", PAUSE);
    judge("without pauses", Duration::ZERO);
}

fn forest() {
    let rows = cloud(ROWS, 1);
    let dataset = Dataset::from(rows.clone());
    let params = ForestParams::new(TREES, SAMPLE, 1).check().expect("good parameters");
    let grown: Forest = params.fit(&dataset).expect("a forest");
    let quantiser = Quantiser::fit(rows.view(), 0.0);
    let plain = Reference::grow(&rows);
    let mut online = OnlineForest::new(params, COLUMNS);
    rows.rows().into_iter().for_each(|row| {
        online.learn(slice(&row));
    });

    let each = |work: &mut dyn FnMut(&[f64]) -> f64| {
        let begun = Instant::now();
        let sum: f64 = rows.rows().into_iter().map(|row| work(slice(&row))).sum();
        black_box(sum);
        begun.elapsed().as_secs_f64() * 1e9 / ROWS as f64
    };
    let names = [
        "reference: 64 pointer trees of f64, row by row",
        "quantise",
        "score row by row, quantising included",
        "score in batches, quantising included",
        "learn",
        "score, then learn",
        "which column is to blame",
    ];
    let mut times = vec![Vec::new(); names.len()];
    for _ in 0..ROUNDS {
        let mut slot = [0; COLUMNS];
        let round = [
            each(&mut |row| plain.depth(row)),
            each(&mut |row| {
                quantiser.quantise(row, &mut slot);
                f64::from(slot[0])
            }),
            each(&mut |row| grown.depth(row)),
            {
                let begun = Instant::now();
                let mut sum = 0.0;
                grown.depths(rows.view(), |_, depth| sum += depth);
                black_box(sum);
                begun.elapsed().as_secs_f64() * 1e9 / ROWS as f64
            },
            each(&mut |row| f64::from(u8::from(online.learn(row)))),
            each(&mut |row| {
                let score = online.score(row);
                online.learn(row);
                score
            }),
            each(&mut |row| row.first_chunk::<COLUMNS>().map_or(0.0, |row| grown.attribute(row)[0])),
        ];
        times.iter_mut().zip(round).for_each(|(times, time)| times.push(time));
    }
    // A round takes a millisecond or so: the fastest ones were not interrupted by anything else on the machine.
    let fastest = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let reference = fastest(&times[0]);
    println!("{COLUMNS} columns, {TREES} trees, one core, fastest of {ROUNDS} rounds:\n");
    println!("| | ns a row | million rows/s | times the reference's speed |");
    println!("|---|---|---|---|");
    for (name, own) in names.iter().zip(&times) {
        let ns = fastest(own);
        println!("| {name} | {ns:.0} | {:.2} | {:.1} |", 1e3 / ns, reference / ns);
    }
}

/// Time runs 960 times as fast, so that nearly every event offers a row and trees are grown all the time. Without pauses the
/// second that a growth has is over in a fraction of a millisecond: the largest times are those of whoever waits for the rest.
fn judge(how: &str, pause: Duration) {
    let mut world = World::new(1);
    let mut model = support::learnt(Params::default(), &mut world);
    world.factor = 960;
    let mut times = Vec::new();
    for _ in 0..SECONDS {
        let at = world.now();
        for event in world.second() {
            let begun = Instant::now();
            black_box(model.observe(&event, Standing::Ready));
            times.push(begun.elapsed().as_nanos() as u64);
        }
        std::thread::sleep(pause);
        model.tick(at);
    }
    times.sort_unstable();
    let at = |share: f64| times[((share * times.len() as f64) as usize).min(times.len() - 1)] as f64 / 1e3;
    println!(
        "\njudge, {how}, event to explained verdict, learning and trees included, {} events: p50 {:.1}, p99 {:.1}, p99.9 {:.1}, largest {:.0} µs",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn slice<'a>(row: &'a ArrayView1<'_, f64>) -> &'a [f64] {
    row.as_slice().unwrap_or_default()
}

fn cloud(rows: usize, seed: u64) -> Array2<f64> {
    let mut random = Random::new(seed);
    Array2::from_shape_fn((rows, COLUMNS), |_| (0..4).map(|_| random.unit()).sum::<f64>())
}

/// A forest as one would write it first.
struct Reference(Vec<Node>);

enum Node {
    Cut { column: usize, at: f64, left: Box<Node>, right: Box<Node> },
    Leaf(f64),
}

impl Reference {
    fn grow(rows: &Array2<f64>) -> Self {
        let mut random = Random::new(2);
        let tree = |_| {
            let chosen: Vec<usize> = (0..SAMPLE).map(|_| random.below(rows.nrows())).collect();
            Node::grow(rows, chosen, 0, &mut random)
        };
        Self((0..TREES).map(tree).collect())
    }

    fn depth(&self, row: &[f64]) -> f64 {
        self.0.iter().map(|tree| tree.depth(row)).sum::<f64>() / TREES as f64
    }
}

impl Node {
    fn grow(rows: &Array2<f64>, chosen: Vec<usize>, level: usize, random: &mut Random) -> Self {
        let column = random.below(COLUMNS);
        let values = || chosen.iter().map(|row| rows[[*row, column]]);
        let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
        if level == 8 || chosen.len() < 2 || low >= high {
            return Self::Leaf(level as f64 + model::forest::expected_rest(chosen.len()));
        }
        let at = high - (high - low) * random.unit();
        let (left, right): (Vec<usize>, Vec<usize>) = chosen.iter().partition(|row| rows[[**row, column]] < at);
        let mut side = |chosen| Box::new(Self::grow(rows, chosen, level + 1, random));
        Self::Cut { column, at, left: side(left), right: side(right) }
    }

    fn depth(&self, row: &[f64]) -> f64 {
        match self {
            Self::Cut { column, at, left, right } => if row[*column] < *at { left } else { right }.depth(row),
            Self::Leaf(depth) => *depth,
        }
    }
}
