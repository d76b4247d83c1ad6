//! From numbers to `u16`, order kept: robust scaling, then a logarithm for what lies far out.
//!
//! `z = (x − median) / spread` and `asinh(z / 12)`: linear within a dozen spreads, logarithmic beyond, so that one far value does
//! not press everything else together. A spread is the interquartile range, but never less than a floor: a column of which
//! most values are equal would else be stretched without end by the few that are not.
//!
//! Only operations that IEEE 754 defines to the last bit are used (+, −, ×, ÷, √ and integers); the logarithm is read off the
//! bits of the number. So the same number gives the same `u16` on every machine, and because every step keeps the order, a
//! larger number never gives a smaller one.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

/// What the median becomes. Values reach from 1 to 65,533.
pub const CENTRE: u16 = 32_767;
/// Where the logarithm takes over, in spreads.
const KNEE: f64 = 12.0;
/// Bits behind the point: 1/2,048 of an octave, about 1/246 of a spread around the median.
pub(crate) const FRACTION: u32 = 11;
/// Farthest step from the centre: 16 octaves, 393,216 spreads.
const FARTHEST: u32 = 32_766;
/// The spread is at least this share of the span of the middle 98 %, which is 3.4 interquartile ranges for a normal
/// distribution: it speaks for columns only of which more than half is equal.
const WIDE_SHARE: f64 = 1.0 / 32.0;
/// And this share of the whole span, for columns of which 98 % are equal.
const RANGE_SHARE: f64 = 1.0 / 512.0;

/// Scales of every column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiser {
    scales: Vec<Scale>,
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Scale {
    centre: f64,
    spread: f64,
}

impl Quantiser {
    /// Measures the columns of rows; `floor` is the least spread, in units of the rows, 0 or more. NaN is passed over.
    pub fn fit(rows: ArrayView2<'_, f64>, floor: f64) -> Self {
        let scale = |column: ndarray::ArrayView1<'_, f64>| {
            let mut values: Vec<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
            Scale::of(&mut values, floor)
        };
        Self { scales: rows.columns().into_iter().map(scale).collect() }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.scales.len()
    }

    /// Quantises a row. What is missing in the row, and NaN, becomes [`CENTRE`]: nothing known is nothing strange.
    pub fn quantise(&self, row: &[f64], into: &mut [u16]) {
        for ((scale, value), slot) in self.scales.iter().zip(row).zip(into) {
            *slot = scale.quantise(*value);
        }
    }

    /// The same cut in the scale of `newer`: cuts outlive the scale that they were drawn in, exact to one step.
    pub fn carry(&self, newer: &Self, column: usize, cut: u16) -> u16 {
        match (self.scales.get(column), newer.scales.get(column)) {
            (Some(older), Some(newer)) => newer.quantise(older.value(cut)),
            _ => cut,
        }
    }

    /// Whether it can have been fitted.
    pub(crate) fn is_sound(&self) -> bool {
        self.scales.iter().all(|scale| scale.centre.is_finite() && scale.spread.is_finite() && scale.spread > 0.0)
    }
}

impl Scale {
    fn of(values: &mut [f64], floor: f64) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let at = (share * values.len() as f64) as usize;
            values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
        };
        // Halved before they are subtracted: the largest numbers are 1.8e308 on both sides.
        let between = |low: f64, high: f64| ((at(high) * 0.5 - at(low) * 0.5) * 2.0).min(f64::MAX);
        let widest = [between(0.25, 0.75), between(0.01, 0.99) * WIDE_SHARE, between(0.0, 1.0) * RANGE_SHARE, floor];
        let spread = widest.into_iter().fold(0.0, f64::max);
        // A constant column is never cut; any spread will do. One that is too small to be divided by is as good as constant.
        Self { centre: at(0.5), spread: if spread < f64::MIN_POSITIVE { 1.0 } else { spread } }
    }

    #[inline]
    fn quantise(self, value: f64) -> u16 {
        let y = (value - self.centre) / (self.spread * KNEE);
        let far = y.abs();
        let step = octaves(far + (far * far + 1.0).sqrt()).min(FARTHEST) as u16;
        // NaN is neither below nor above.
        if y > 0.0 {
            CENTRE + step
        } else if y < 0.0 {
            CENTRE - step
        } else {
            CENTRE
        }
    }

    /// The middle of what becomes this number.
    fn value(self, quantised: u16) -> f64 {
        let step = (f64::from(quantised) - f64::from(CENTRE)).abs() + 0.5;
        let w = power(step / f64::from(1u32 << FRACTION));
        let far = (w - 1.0 / w) * 0.5 * KNEE * self.spread;
        match quantised {
            CENTRE => self.centre,
            above if above > CENTRE => self.centre + far,
            _ => self.centre - far,
        }
    }
}

/// `log2(w)` for `w ≥ 1` in steps of 2^-[`FRACTION`]; the logarithm within an octave is a parabola, wrong by 0.008 at most.
#[inline]
pub(crate) fn octaves(w: f64) -> u32 {
    const ONE: u64 = 1023 << 52;
    // Sixteen bits of the fraction below the exponent: 1,024 octaves fit.
    let straight = ((w.to_bits().saturating_sub(ONE)) >> 36) as u32;
    let within = straight & 0xffff;
    let bend = (((within * (0x1_0000 - within)) >> 16) * BEND) >> 16;
    (straight + bend) >> (16 - FRACTION)
}

/// `log2(1 + m) ≈ m + 0.344·m·(1 − m)`, in 1/65,536. Less than 1, so that the sum never falls.
const BEND: u32 = 22_544;

/// `2^octaves`: the inverse of [`octaves`].
fn power(octaves: f64) -> f64 {
    let whole = octaves.floor();
    let bend = f64::from(BEND) / 65_536.0;
    let sum = 1.0 + bend;
    let within = (sum - (sum * sum - 4.0 * bend * (octaves - whole)).sqrt()) / (2.0 * bend);
    (1.0 + within) * f64::from(1u32 << (whole as u32).min(31))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, arr2};
    use proptest::prelude::*;

    use super::*;

    fn fitted(values: &[f64], floor: f64) -> Scale {
        Scale::of(&mut values.to_vec(), floor)
    }

    fn any_number() -> impl Strategy<Value = f64> {
        prop_oneof![any::<f64>(), -1e3..1e3f64, Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(f64::NAN), Just(0.0)]
    }

    #[test]
    fn it_is_the_asinh_of_the_formula() {
        let scale = Scale { centre: 10.0, spread: 2.0 };
        for z in [0.01, 0.5, 1.0, 3.0, 10.0, 1e3, 1e5] {
            let want = (z / KNEE).asinh() / std::f64::consts::LN_2 * 2_048.0;
            let step = f64::from(scale.quantise(10.0 + 2.0 * z)) - f64::from(CENTRE);
            assert!((step - want).abs() < 0.009 * 2_048.0 + 1.0, "z = {z}: {step} instead of {want}");
            assert_eq!(CENTRE - scale.quantise(10.0 - 2.0 * z), step as u16, "both sides alike");
        }
    }

    #[test]
    fn a_sparse_column_is_not_stretched_without_end() {
        let mut rare = vec![0.0; 1_000];
        rare[7] = 1.0;
        assert_eq!(fitted(&rare, 0.0).spread, 1.0 / 512.0);
        assert_eq!(fitted(&rare, 0.5).spread, 0.5, "a floor that is known is better");
        let normal: Vec<f64> = (0..1_000).map(|n| f64::from(n) / 1_000.0).collect();
        assert_eq!(fitted(&normal, 0.0).spread, 0.5, "where there is a middle half, it decides");
    }

    #[test]
    fn columns_that_say_nothing_do_no_harm() {
        let none = Quantiser::fit(Array2::<f64>::zeros((0, 3)).view(), 0.0);
        let odd = Quantiser::fit(arr2(&[[5.0, f64::NAN, f64::MAX], [5.0, f64::NAN, f64::MIN]]).view(), 0.0);
        for quantiser in [none, odd] {
            assert!(quantiser.is_sound() && quantiser.width() == 3, "{quantiser:?}");
            let mut row = [0; 3];
            quantiser.quantise(&[5.0, 1.0, 0.0], &mut row);
            assert!(row.iter().all(|value| (1..=65_533).contains(value)));
        }
    }

    proptest! {
        #[test]
        fn a_larger_number_never_becomes_a_smaller_one(
            values in proptest::collection::vec(any_number(), 0..40), floor in 0.0..10.0f64, a in any_number(), b in any_number()
        ) {
            let finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
            let scale = fitted(&finite, floor);
            prop_assert!(scale.spread.is_finite() && scale.spread > 0.0 && scale.centre.is_finite());
            let (one, other) = (scale.quantise(a), scale.quantise(b));
            prop_assert!((1..=65_533).contains(&one));
            if a.is_nan() {
                prop_assert_eq!(one, CENTRE);
            } else if a <= b {
                prop_assert!(one <= other, "{} became {}, {} became {}", a, one, b, other);
            }
        }

        /// Neighbouring floats, where rounding could turn the order around.
        #[test]
        fn neighbours_keep_their_order(centre in -1e6..1e6f64, spread in 1e-6..1e6f64, x in -1e9..1e9f64) {
            let scale = Scale { centre, spread };
            prop_assert!(scale.quantise(x) <= scale.quantise(x.next_up()));
        }

        #[test]
        fn a_value_comes_back_to_its_step(centre in -1e3..1e3f64, spread in 1e-3..1e3f64, step in 1u16..=65_533) {
            let scale = Scale { centre, spread };
            let back = scale.quantise(scale.value(step));
            prop_assert!(back.abs_diff(step) <= 1, "{} came back as {}", step, back);
        }
    }
}
