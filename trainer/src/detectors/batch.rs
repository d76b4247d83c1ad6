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

/// What is fitted.
enum Fitted {
    Nothing,
    Forest(Forest),
    Pca(Components),
    Means(Array2<f64>),
}

#[derive(Clone, Copy)]
enum Kind {
    Forest,
    Pca,
    Means,
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
        Self::new("batch forest, eight coordinates", Kind::Forest, rows, seed ^ 0x102)
    }

    /// The forest on plain numbers.
    pub fn forest_on_raw(seed: u64) -> Self {
        Self::new("batch forest, raw features", Kind::Forest, Rows::Raw(Sample::new(seed ^ 0x103)), seed ^ 0x104)
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
    fn name(&self) -> &'static str {
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
        if rows.nrows() < LEAST_ROWS {
            return Ok(());
        }
        let dataset = Dataset::from(rows);
        self.fitted = match self.kind {
            Kind::Forest => Fitted::Forest(ForestParams::new(TREES, SAMPLE, self.seed).check_ref()?.fit(&dataset)?),
            Kind::Pca => {
                Fitted::Pca(Components::of(dataset.records()).context("the principal components cannot be found")?)
            }
            Kind::Means => {
                let means = KMeans::params(CLUSTERS).max_n_iterations(100).fit(&dataset);
                Fitted::Means(means.context("the means cannot be found")?.centroids().clone())
            }
        };
        Ok(())
    }

    fn score(&mut self, seen: &Seen) -> f64 {
        let point = self.point(seen);
        match &self.fitted {
            Fitted::Nothing => 0.0,
            Fitted::Forest(forest) => -forest.depth(&point),
            Fitted::Pca(components) => components.residual(ArrayView1::from(&point)),
            Fitted::Means(means) => {
                let to = |mean: ndarray::ArrayView1<f64>| mean.iter().zip(&point).map(|(m, x)| (m - x).powi(2)).sum();
                means.rows().into_iter().map(to).fold(f64::INFINITY, f64::min).sqrt()
            }
        }
    }
}

fn array<const N: usize>(rows: &[[f64; N]]) -> anyhow::Result<Array2<f64>> {
    Ok(Array2::from_shape_vec((rows.len(), N), rows.iter().flatten().copied().collect())?)
}

/// The plane in which rows vary most.
struct Components {
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
