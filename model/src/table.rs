//! Counts by number, in order, in few lines of the cache: what a window asks for was not touched for a while.
//!
//! Blocks of up to 32 keys that stand together, found by their first keys. A window asks for twenty triples of a program that
//! shows a few hundred: they lie in a dozen blocks, where a tree of small nodes would have them in forty. Nobody can choose
//! keys that make it slow, as one could for a hash.

use std::fmt;

/// Keys of a block.
const BLOCK: usize = 32;
/// No key is as large.
const NONE: u32 = u32::MAX;

/// Values by key, keys ascending.
#[derive(Clone, Default)]
pub(crate) struct Table<V> {
    heads: Vec<Head>,
    blocks: Vec<Block<V>>,
    len: usize,
}

/// Where a block is, how full, and from which key on.
#[derive(Clone, Copy)]
struct Head {
    first: u32,
    block: u32,
    len: u32,
}

#[derive(Clone, Copy)]
struct Block<V> {
    /// Ascending, [`NONE`] behind the last one.
    keys: [u32; BLOCK],
    values: [V; BLOCK],
}

impl<V: Copy + Default> Block<V> {
    fn empty() -> Self {
        Self { keys: [NONE; BLOCK], values: [V::default(); BLOCK] }
    }

    /// Keys below a key. All are compared, a few in one instruction: where it ends cannot be foreseen.
    #[inline]
    fn below(&self, key: u32) -> usize {
        self.keys.iter().map(|other| u32::from(*other < key)).sum::<u32>() as usize
    }
}

impl<V: Copy + Default> Table<V> {
    /// Keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, key: u32) -> Option<&V> {
        let head = self.heads.get(self.head_of(key))?;
        let block = self.blocks.get(head.block as usize)?;
        let at = block.below(key);
        if block.keys.get(at) == Some(&key) { block.values.get(at) } else { None }
    }

    /// The value of a key below 2³⁰, which begins with the default.
    pub fn entry(&mut self, key: u32) -> &mut V {
        if self.heads.is_empty() {
            self.heads.push(Head { first: key, block: 0, len: 0 });
            self.blocks.push(Block::empty());
        }
        let mut number = self.head_of(key);
        let (mut block, mut at) = self.place(number, key);
        if self.blocks[block].keys.get(at) != Some(&key) {
            if self.heads[number].len as usize == BLOCK {
                self.split(number);
                number = self.head_of(key);
                (block, at) = self.place(number, key);
            }
            self.insert(number, at, key);
        }
        &mut self.blocks[block].values[at]
    }

    /// All, keys ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &V)> {
        self.heads.iter().flat_map(|head| {
            let block = &self.blocks[head.block as usize];
            block.keys.iter().copied().zip(&block.values).take(head.len as usize)
        })
    }

    /// Which block a key belongs to.
    #[inline]
    fn head_of(&self, key: u32) -> usize {
        self.heads.partition_point(|head| head.first <= key).saturating_sub(1)
    }

    fn place(&self, number: usize, key: u32) -> (usize, usize) {
        let block = self.heads[number].block as usize;
        (block, self.blocks[block].below(key))
    }

    /// Gives the upper half of a full block to a new one.
    fn split(&mut self, number: usize) {
        const HALF: usize = BLOCK / 2;
        let lower = &mut self.blocks[self.heads[number].block as usize];
        let mut upper = Block::empty();
        upper.keys[..HALF].copy_from_slice(&lower.keys[HALF..]);
        upper.values[..HALF].copy_from_slice(&lower.values[HALF..]);
        lower.keys[HALF..].fill(NONE);
        self.heads[number].len = HALF as u32;
        let head = Head { first: upper.keys[0], block: self.blocks.len() as u32, len: HALF as u32 };
        self.heads.insert(number + 1, head);
        self.blocks.push(upper);
    }

    /// Makes room in a block that has some.
    fn insert(&mut self, number: usize, at: usize, key: u32) {
        let head = &mut self.heads[number];
        let block = &mut self.blocks[head.block as usize];
        let len = head.len as usize;
        block.keys.copy_within(at..len, at + 1);
        block.values.copy_within(at..len, at + 1);
        (block.keys[at], block.values[at]) = (key, V::default());
        head.len += 1;
        head.first = head.first.min(key);
        self.len += 1;
    }
}

impl<V: Copy + Default + PartialEq> PartialEq for Table<V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<V: Copy + Default + fmt::Debug> fmt::Debug for Table<V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

impl<V: Copy + Default> FromIterator<(u32, V)> for Table<V> {
    fn from_iter<I: IntoIterator<Item = (u32, V)>>(entries: I) -> Self {
        let mut table = Self::default();
        entries.into_iter().for_each(|(key, value)| *table.entry(key) = value);
        table
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(keys in proptest::collection::vec(0u32..400, 0..1_000), far in any::<u16>()) {
            let (mut table, mut map) = (Table::<u32>::default(), BTreeMap::<u32, u32>::new());
            for key in keys.into_iter().map(|key| key * u32::from(far)) {
                *table.entry(key) += 1;
                *map.entry(key).or_default() += 1;
                prop_assert_eq!(table.get(key), map.get(&key));
            }
            prop_assert_eq!(table.len(), map.len());
            prop_assert_eq!(table.get(7), map.get(&7));
            prop_assert!(table.iter().eq(map.iter().map(|(key, n)| (*key, n))));
            let backwards: Table<u32> = map.into_iter().rev().collect();
            prop_assert_eq!(&backwards, &table);
        }
    }

    #[test]
    fn other_values_are_another_table() {
        let one: Table<u32> = [(1, 5), (2, 6)].into_iter().collect();
        assert_ne!(one, [(1, 5), (2, 7)].into_iter().collect());
        assert_ne!(one, [(1, 5)].into_iter().collect());
    }
}
