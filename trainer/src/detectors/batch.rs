//! Detectors that are fitted once and then frozen: a batch isolation forest with scikit-learn's parameters (100 trees, ψ = 256;
//! the trees and the scale are our own, through linfa's `Fit`), linfa's k-means, and principal components by linfa's symmetric
//! eigensolver. (`linfa-reduction`'s PCA draws its start by lot and panics on our rows, of which most numbers are zero: its
//! iteration meets NaN.)

use anyhow::{Context, bail};
use linfa::traits::Fit;
use linfa::{Dataset, ParamGuard};
use linfa_clustering::KMeans;
use linfa_linalg::eigh::EighInto;
use model::features::COORDINATES;
use model::forest::{Forest, ForestParams};
use ndarray::{Array1, Array2, ArrayView1, Axis};

use super::features::RAW;
use super::robust::Sample;
use super::{Detector, Seen};

const TREES: usize = 100;
const SAMPLE: usize = 256;
const COMPONENTS: usize = 3;
const CLUSTERS: usize = 8;
/// Rows without which nothing is fitted.
const LEAST_ROWS: usize = 32;

/// A detector of rows that was fitted once.
pub enum Fitted {
    /// Too few rows to fit anything: every score is 0.
    Nothing,
    /// Our trees.
    Forest(Forest),
    /// Principal components.
    Pca(Components),
    /// Means, one a row.
    Means(Array2<f64>),
}

/// What can be fitted.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// An isolation forest of 100 trees of 256 rows: minus the mean depth.
    Forest,
    /// Distance from the plane of three principal components.
    Pca,
    /// Distance from the nearest of eight means.
    Means,
}

impl Fitted {
    /// Fits rows; the means and the components draw no lots that a seed could change.
    ///
    /// # Errors
    ///
    /// When a number is not finite, or the rows have no columns or too many.
    pub fn to(kind: Kind, rows: Array2<f64>, seed: u64) -> anyhow::Result<Self> {
        if let Some(((row, column), value)) = rows.indexed_iter().find(|(_, value)| !value.is_finite()) {
            bail!("row {row}, column {column} is {value}");
        }
        if rows.nrows() < LEAST_ROWS {
            return Ok(Self::Nothing);
        }
        let dataset = Dataset::from(rows);
        Ok(match kind {
            Kind::Forest => Self::Forest(ForestParams::new(TREES, SAMPLE, seed).check_ref()?.fit(&dataset)?),
            Kind::Pca => {
                Self::Pca(Components::of(dataset.records()).context("the principal components cannot be found")?)
            }
            Kind::Means => {
                let means = KMeans::params(CLUSTERS).max_n_iterations(100).fit(&dataset);
                Self::Means(means.context("the means cannot be found")?.centroids().clone())
            }
        })
    }

    /// Scores a row as wide as those it was fitted to; higher = more anomalous.
    ///
    /// # Errors
    ///
    /// When a number is not finite.
    pub fn score(&self, point: &[f64]) -> anyhow::Result<f64> {
        if let Some(value) = point.iter().find(|value| !value.is_finite()) {
            bail!("a number is {value}");
        }
        Ok(match self {
            Self::Nothing => 0.0,
            Self::Forest(forest) => -forest.depth(point),
            Self::Pca(components) => components.residual(ArrayView1::from(point)),
            Self::Means(means) => {
                let to = |mean: ArrayView1<f64>| mean.iter().zip(point).map(|(m, x)| (m - x).powi(2)).sum();
                means.rows().into_iter().map(to).fold(f64::INFINITY, f64::min).sqrt()
            }
        })
    }
}

enum Rows {
    Coordinates(Sample<COORDINATES>),
    Raw(Sample<RAW>),
}

/// A detector that is fitted once.
pub struct Batch {
    name: &'static str,
    kind: Kind,
    seed: u64,
    rows: Rows,
    fitted: Fitted,
}

impl Batch {
    fn new(name: &'static str, kind: Kind, rows: Rows, seed: u64) -> Self {
        Self { name, kind, seed, rows, fitted: Fitted::Nothing }
    }

    /// The forest on our eight coordinates.
    pub fn forest_on_coordinates(seed: u64) -> Self {
        let rows = Rows::Coordinates(Sample::new(seed ^ 0x101));
        Self::new("our batch forest, eight coordinates", Kind::Forest, rows, seed ^ 0x102)
    }

    /// The forest on plain numbers.
    pub fn forest_on_raw(seed: u64) -> Self {
        Self::new("our batch forest, raw features", Kind::Forest, Rows::Raw(Sample::new(seed ^ 0x103)), seed ^ 0x104)
    }

    /// Distance from the plane of three principal components.
    pub fn pca(seed: u64) -> Self {
        let rows = Rows::Coordinates(Sample::new(seed ^ 0x105));
        Self::new("PCA residual, eight coordinates", Kind::Pca, rows, seed)
    }

    /// Distance from the nearest of eight means.
    pub fn kmeans(seed: u64) -> Self {
        let rows = Rows::Coordinates(Sample::new(seed ^ 0x106));
        Self::new("k-means distance, eight coordinates", Kind::Means, rows, seed)
    }

    fn point(&self, seen: &Seen) -> Vec<f64> {
        match self.rows {
            Rows::Coordinates(_) => seen.verdict.vector.bits.to_vec(),
            Rows::Raw(_) => seen.raw.to_vec(),
        }
    }
}

impl Detector for Batch {
    fn name(&self) -> &str {
        self.name
    }

    fn learn(&mut self, seen: &Seen) {
        match &mut self.rows {
            // Early vectors are all surprise: a batch detector is given those of a baseline that exists.
            Rows::Coordinates(sample) if seen.late => sample.offer(seen.verdict.vector.bits),
            Rows::Coordinates(_) => (),
            Rows::Raw(sample) => sample.offer(seen.raw),
        }
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        let rows = match &self.rows {
            Rows::Coordinates(sample) => array(&sample.rows)?,
            Rows::Raw(sample) => array(&sample.rows)?,
        };
        self.fitted = Fitted::to(self.kind, rows, self.seed)?;
        Ok(())
    }

    fn score(&mut self, seen: &Seen) -> anyhow::Result<f64> {
        self.fitted.score(&self.point(seen))
    }
}

fn array<const N: usize>(rows: &[[f64; N]]) -> anyhow::Result<Array2<f64>> {
    Ok(Array2::from_shape_vec((rows.len(), N), rows.iter().flatten().copied().collect())?)
}

/// The plane in which rows vary most.
pub struct Components {
    centre: Array1<f64>,
    axes: Array2<f64>,
}

impl Components {
    fn of(rows: &Array2<f64>) -> anyhow::Result<Self> {
        let centre = rows.mean_axis(Axis(0)).context("there are no rows")?;
        let moved = rows - &centre;
        let covariance = moved.t().dot(&moved) / rows.nrows() as f64;
        let (sizes, axes) = covariance.eigh_into()?;
        if !sizes.iter().chain(&axes).all(|number| number.is_finite()) {
            bail!("the eigensolver met no numbers");
        }
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by(|a, b| sizes[*b].total_cmp(&sizes[*a]));
        order.truncate(COMPONENTS);
        Ok(Self { centre, axes: axes.select(Axis(1), &order) })
    }

    /// How far a point lies from it.
    fn residual(&self, point: ArrayView1<f64>) -> f64 {
        let moved = &point - &self.centre;
        let left = &moved - &self.axes.dot(&self.axes.t().dot(&moved));
        left.dot(&left).sqrt()
    }
}
