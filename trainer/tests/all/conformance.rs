//! Every detector of rows, ours and rivals': scores are numbers, more is stranger, the same seed says the same, and tables that
//! are hard to learn from harm nothing.

use model::random::Random;
use ndarray::Array2;
use stockade_trainer::detectors::{Fitted, Kind};
use stockade_trainer::streaming::{METHODS, Method};

const ROWS: usize = 1_024;

/// Scores a row after it has learnt others.
type Learnt = Box<dyn FnMut(&[f64]) -> f64>;
/// Learns rows by a seed.
type Learn = Box<dyn Fn(&Array2<f64>, u64) -> Learnt>;

/// A detector by name, which learns rows by a seed.
struct Subject {
    name: String,
    learn: Learn,
    /// Draws lots by its seed.
    by_lot: bool,
    /// Columns from which on it has anything to say.
    least_columns: usize,
}

fn streaming(method: Method) -> Subject {
    let learn = move |rows: &Array2<f64>, seed| -> Learnt {
        let mut detector = (method.make)(rows.ncols(), seed);
        rows.rows().into_iter().for_each(|row| detector.learn(&row.to_vec()));
        Box::new(move |row| detector.score(row))
    };
    Subject { name: method.name.to_owned(), learn: Box::new(learn), by_lot: true, least_columns: 1 }
}

fn batch(kind: Kind, by_lot: bool, least_columns: usize) -> Subject {
    let learn = move |rows: &Array2<f64>, seed| -> Learnt {
        let fitted = Fitted::to(kind, rows.clone(), seed).expect("a detector");
        Box::new(move |row| fitted.score(row).expect("a score"))
    };
    Subject { name: format!("{kind:?}"), learn: Box::new(learn), by_lot, least_columns }
}

fn subjects() -> Vec<Subject> {
    // Three components leave nothing of three columns.
    let batches = [batch(Kind::Forest, true, 1), batch(Kind::Pca, false, 4), batch(Kind::Means, false, 1)];
    METHODS.iter().copied().map(streaming).chain(batches).collect()
}

/// Rows around the origin, the sum of four uniform numbers each.
fn cloud(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut random = Random::new(seed);
    Array2::from_shape_simple_fn((rows, columns), || (0..4).map(|_| random.unit() - 0.5).sum())
}

fn scores(learnt: &mut Learnt, rows: &Array2<f64>) -> Vec<f64> {
    rows.rows().into_iter().map(|row| learnt(&row.to_vec())).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn what_lies_far_away_scores_above_the_usual_row_whatever_the_width() {
    for columns in [1, 4, 64] {
        let rows = cloud(ROWS, columns, 1);
        for subject in subjects().into_iter().filter(|subject| subject.least_columns <= columns) {
            let mut learnt = (subject.learn)(&rows, 7);
            let usual = median(scores(&mut learnt, &rows));
            for far in [9.0, -9.0] {
                let score = learnt(&vec![far; columns]);
                assert!(score > usual, "{}, {columns} columns, {far}: {score} against {usual}", subject.name);
            }
        }
    }
}

#[test]
fn every_score_is_a_number_on_tables_that_are_hard_to_learn_from() {
    let mut half_constant = cloud(ROWS, 6, 2);
    half_constant.columns_mut().into_iter().step_by(2).for_each(|mut column| column.fill(3.0));
    let one = cloud(1, 6, 3);
    let twins = Array2::from_shape_fn((ROWS, 6), |(row, column)| f64::from(u8::from(row % 2 == 0)) + column as f64);
    let constant = Array2::from_elem((ROWS, 6), 5.0);
    let wide = cloud(ROWS, 6, 4) * 1e150;
    for (what, rows) in
        [("half constant", half_constant), ("one row", one), ("twins", twins), ("constant", constant), ("wide", wide)]
    {
        for subject in subjects() {
            let mut learnt = (subject.learn)(&rows, 7);
            let far = Array2::from_shape_fn((4, 6), |(row, _)| [0.0, -1e12, 1e12, 5.0][row]);
            for score in scores(&mut learnt, &rows).into_iter().chain(scores(&mut learnt, &far)) {
                assert!(score.is_finite(), "{} on {what}: {score}", subject.name);
            }
        }
    }
}

#[test]
fn the_same_seed_says_the_same_to_the_last_bit_and_another_draws_other_lots() {
    let (rows, asked) = (cloud(ROWS, 5, 5), cloud(64, 5, 6));
    for subject in subjects() {
        let said = |seed| -> Vec<u64> {
            scores(&mut (subject.learn)(&rows, seed), &asked).into_iter().map(f64::to_bits).collect()
        };
        assert_eq!(said(1), said(1), "{}", subject.name);
        assert_eq!(said(1) != said(2), subject.by_lot, "{}", subject.name);
    }
}

/// A stream depends on its order; a batch must not, beyond the lots that it draws.
#[test]
fn a_batch_says_of_reversed_rows_what_it_says_of_rows() {
    let (rows, asked) = (cloud(ROWS, 5, 7), cloud(64, 5, 8));
    let mut reversed = rows.clone();
    reversed.invert_axis(ndarray::Axis(0));
    for subject in [batch(Kind::Forest, true, 1), batch(Kind::Pca, false, 4)] {
        let (mut one, mut other) = ((subject.learn)(&rows, 1), (subject.learn)(&reversed, 1));
        let (one, other) = (scores(&mut one, &asked), scores(&mut other, &asked));
        let (low, high) =
            one.iter().fold((f64::MAX, f64::MIN), |(low, high), score| (low.min(*score), high.max(*score)));
        let most = one.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / (high - low);
        let allowed = if subject.by_lot { 0.35 } else { 1e-9 };
        assert!(most <= allowed, "{}: {most} of the range", subject.name);
    }
}

#[test]
fn nothing_is_fitted_to_what_is_no_number_and_nothing_scored() {
    for kind in [Kind::Forest, Kind::Pca, Kind::Means] {
        for wrong in [f64::NAN, f64::INFINITY] {
            let mut rows = cloud(ROWS, 5, 9);
            let fitted = Fitted::to(kind, rows.clone(), 1).expect("a detector");
            rows[[17, 3]] = wrong;
            let refused = Fitted::to(kind, rows, 1).err().expect("a refusal").to_string();
            assert!(refused.contains("row 17, column 3 is"), "{kind:?}: {refused}");
            assert!(fitted.score(&[0.0, wrong, 0.0, 0.0, 0.0]).is_err(), "{kind:?}");
        }
    }
}
