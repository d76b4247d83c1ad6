//! Which half of the hours each tree was grown from, so that a row can be asked of the trees that never saw its hour.
//!
//! A score that is to say what is usual must not come from trees that have the scored row in them: they have made room for it.
//! Each tree knows a random half of the hours, by one bit of a hash, and what an hour brought is scored by the others
//! (jackknife+-after-bootstrap by blocks: Kim, Xu and Barber, 2020).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// Fewer different hours are not halved: a young forest is grown from all there is.
const LEAST_HOURS: usize = 8;
/// Draws until the half holds between a third and two thirds of the rows; else the tree is grown from all of them.
const DRAWS: usize = 16;
/// Salt of a tree that was grown from every hour.
const ALL: u64 = 0;

/// The half of each tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halves {
    salts: Vec<u64>,
}

impl Halves {
    /// Draws the half for a tree, given the hour of every row. A number beyond the last tree is added as the next one.
    pub(crate) fn draw(&mut self, tree: usize, hours: &[u64], random: &mut Random) {
        let mut rows: BTreeMap<u64, usize> = BTreeMap::new();
        hours.iter().for_each(|hour| *rows.entry(*hour).or_default() += 1);
        let is_fair = |salt: &u64| {
            let half: usize = rows.iter().filter(|(hour, _)| is_in(*salt, **hour)).map(|(_, rows)| rows).sum();
            (hours.len()..=2 * hours.len()).contains(&(3 * half))
        };
        let draws = if rows.len() < LEAST_HOURS { 0 } else { DRAWS };
        let salt = (0..draws).map(|_| random.draw().max(1)).find(is_fair).unwrap_or(ALL);
        match self.salts.get_mut(tree) {
            Some(slot) => *slot = salt,
            None => self.salts.push(salt),
        }
    }

    /// Whether a tree was grown from rows of this hour, if there were any.
    pub(crate) fn has_seen(&self, tree: usize, hour: u64) -> bool {
        self.salts.get(tree).is_none_or(|salt| *salt == ALL || is_in(*salt, hour))
    }

    /// Trees that have a half.
    pub(crate) fn len(&self) -> usize {
        self.salts.len()
    }
}

/// One bit of a hash of both.
fn is_in(salt: u64, hour: u64) -> bool {
    Random::new(salt ^ hour.wrapping_mul(0xd6e8_feb8_6659_fd93)).draw() & 1 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_hours_are_not_halved() {
        let (mut halves, hours): (_, Vec<u64>) = (Halves::default(), (0..70).map(|n| n % 7).collect());
        halves.draw(0, &hours, &mut Random::new(1));
        assert!((0..7).all(|hour| halves.has_seen(0, hour)));
    }

    #[test]
    fn every_hour_is_unknown_to_about_half_of_the_trees() {
        let (mut halves, mut random) = (Halves::default(), Random::new(1));
        let hours: Vec<u64> = (0..2_000).map(|n| 400_000 + n % 48).collect();
        (0..64).for_each(|tree| halves.draw(tree, &hours, &mut random));
        for hour in 400_000..400_048 {
            let lack = (0..64).filter(|tree| !halves.has_seen(*tree, hour)).count();
            assert!((16..=48).contains(&lack), "hour {hour}: {lack} of 64 trees");
        }
    }

    proptest! {
        /// Whatever the hours look like, a tree is grown from a third of the rows at least.
        #[test]
        fn a_half_holds_enough_rows(hours in proptest::collection::vec(0u64..40, 1..400), seed in any::<u64>()) {
            let mut halves = Halves::default();
            halves.draw(0, &hours, &mut Random::new(seed));
            let half = hours.iter().filter(|hour| halves.has_seen(0, **hour)).count();
            prop_assert!(3 * half >= hours.len());
        }
    }
}
