//! The calls of a window, and what stands in a row in it: each different one once, with how often.
//!
//! A window holds 128 calls and perhaps twenty different triples of them: who looks something up for each should do so
//! twenty times.

use collector_common::token;

/// Each different call, pair and triple of a window with its number of times, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Grams {
    pub one: Vec<(u32, u32)>,
    pub two: Vec<(u32, u32)>,
    pub three: Vec<(u32, u32)>,
}

impl Grams {
    /// Of tokens, oldest first.
    pub fn of(trace: &[u16]) -> Self {
        let numbers: Vec<u16> = trace.iter().map(|call| token::number(*call)).collect();
        let mut counter = Counter::up_to(numbers.len());
        Self {
            one: counter.counted(numbers.iter().map(|call| u32::from(*call))),
            two: counter.counted(numbers.windows(2).map(|two| pair(two[0].into(), two[1].into()))),
            three: counter.counted(numbers.windows(3).map(|three| token::trigram(three[0], three[1], three[2]))),
        }
    }
}

/// The largest number of a triple.
pub(crate) const MOST_GRAM: u32 = token::trigram(u16::MAX, u16::MAX, u16::MAX);

/// Two calls as a number.
pub(crate) fn pair(a: u32, b: u32) -> u32 {
    token::trigram(0, a as u16, b as u16)
}

/// The calls of a triple, and the last two of a pair, the oldest first.
pub(crate) fn calls_of(gram: u32) -> [u32; 3] {
    [20, 10, 0].map(|shift| u32::from(token::number((gram >> shift) as u16)))
}

/// A small table of hashes with open addresses.
struct Counter {
    /// One more than the place among what was counted; 0 where there is none.
    slots: Vec<u32>,
}

impl Counter {
    /// For so many different ones.
    fn up_to(many: usize) -> Self {
        Self { slots: vec![0; (2 * many).next_power_of_two().max(2)] }
    }

    fn counted(&mut self, grams: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
        self.slots.fill(0);
        let mut counted: Vec<(u32, u32)> = Vec::new();
        for gram in grams {
            let mut at = self.first_slot(gram);
            loop {
                let slot = &mut self.slots[at];
                match counted.get_mut((*slot as usize).wrapping_sub(1)) {
                    Some((known, times)) if *known == gram => {
                        *times += 1;
                        break;
                    }
                    Some(_) => at = (at + 1) % self.slots.len(),
                    None => {
                        counted.push((gram, 1));
                        *slot = counted.len() as u32;
                        break;
                    }
                }
            }
        }
        counted
    }

    /// Fibonacci hashing: the top bits of a product with 2^32/φ.
    fn first_slot(&self, gram: u32) -> usize {
        (gram.wrapping_mul(0x9e37_79b1) >> (32 - self.slots.len().ilog2())) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_came_first_stands_first() {
        let grams = Grams::of(&[5, 1, 5, 1, 7]);
        assert_eq!(grams.one, [(5, 2), (1, 2), (7, 1)]);
        assert_eq!(grams.two, [(pair(5, 1), 2), (pair(1, 5), 1), (pair(1, 7), 1)]);
        assert_eq!(grams.three.iter().map(|(three, _)| calls_of(*three)).last(), Some([5, 1, 7]));
        assert_eq!(Grams::of(&[]), Grams::default());
    }

    proptest! {
        #[test]
        fn each_is_counted_as_often_as_it_came(trace in proptest::collection::vec(0u16..40, 0..300)) {
            let mut plain: BTreeMap<u32, u32> = BTreeMap::new();
            trace.windows(3).for_each(|three| *plain.entry(token::trigram(three[0], three[1], three[2])).or_default() += 1);
            let mut counted = Grams::of(&trace).three;
            counted.sort_unstable();
            prop_assert_eq!(counted, plain.into_iter().collect::<Vec<_>>());
        }
    }
}
