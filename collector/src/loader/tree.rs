//! Process trees as the kernel's lineage map knows them.

use std::collections::BTreeSet;

use aya::maps::HashMap;
use collector_common::map::{LINEAGE_PROTECTED, Lineage};

use super::{Kernel, LoadError};

impl Kernel {
    /// Cookies of the living processes of a tree, itself included, however deep; protected ones are left out.
    pub fn members_of(&self, cookie: u64) -> Vec<u64> {
        let lineages = self.lineages();
        let members = below(&lineages, cookie);
        let is_free = |lineage: &&Lineage| lineage.flags & LINEAGE_PROTECTED == 0;
        let living = lineages.iter().filter(is_free).map(|lineage| lineage.cookie);
        living.filter(|living| members.contains(living)).collect()
    }

    /// Makes a decision on a tree reach its living members that are more generations away than the kernel looks back.
    /// Those that are born later inherit it. Returns how many there were.
    ///
    /// # Errors
    ///
    /// When the lineage map cannot be written.
    pub fn reach_deep(&mut self, cookie: u64) -> Result<usize, LoadError> {
        let lineages = self.lineages();
        let members = below(&lineages, cookie);
        let far: Vec<Lineage> = lineages
            .into_iter()
            .filter(|lineage| members.contains(&lineage.cookie) && !is_near(lineage, cookie) && lineage.sticky == 0)
            .collect();
        let map = self.ebpf.map_mut("lineage").ok_or(LoadError::NoMap("lineage"))?;
        let mut entries: HashMap<_, u32, Lineage> = HashMap::try_from(map).map_err(|_| LoadError::NoMap("lineage"))?;
        for lineage in &far {
            const EXISTS: u64 = 2;
            let tgid = collector_common::header::tgid_of(lineage.cookie);
            // One that ended meanwhile is not entered again.
            let _ = entries.insert(tgid, Lineage { sticky: cookie, ..*lineage }, EXISTS);
        }
        Ok(far.len())
    }

    fn lineages(&self) -> Vec<Lineage> {
        let map = self.ebpf.map("lineage");
        let entries = map.and_then(|map| HashMap::<_, u32, Lineage>::try_from(map).ok());
        entries.map_or_else(Vec::new, |entries| entries.iter().flatten().map(|(_, lineage)| lineage).collect())
    }
}

/// Whether the kernel finds the ancestor by itself.
fn is_near(lineage: &Lineage, cookie: u64) -> bool {
    lineage.cookie == cookie || lineage.root == cookie || lineage.sticky == cookie || lineage.near.contains(&cookie)
}

/// The members of a tree: those who have it among their nearest ancestors, and those who have a member there.
fn below(lineages: &[Lineage], cookie: u64) -> BTreeSet<u64> {
    let mut members: BTreeSet<u64> = BTreeSet::from([cookie]);
    loop {
        let found: Vec<u64> = lineages
            .iter()
            .filter(|lineage| !members.contains(&lineage.cookie))
            .filter(|lineage| is_near(lineage, cookie) || lineage.near.iter().any(|near| members.contains(near)))
            .flat_map(|lineage| {
                // The dead between a member and its descendant belong to the tree too.
                let between = lineage.near.iter().take_while(|near| !members.contains(near) && **near != 0);
                std::iter::once(lineage.cookie).chain(between.copied()).collect::<Vec<_>>()
            })
            .collect();
        let before = members.len();
        members.extend(found);
        if members.len() == before {
            return members;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Generation `n` of a chain; its eight nearest ancestors are the eight before it.
    fn generation(n: u64) -> Lineage {
        let near = std::array::from_fn(|at| n.saturating_sub(at as u64 + 1));
        Lineage { cookie: n, root: 1, near, ..Lineage::default() }
    }

    #[test]
    fn a_tree_is_followed_through_the_dead_and_deeper_than_the_kernel_looks() {
        // Of thirty generations only every seventh lives; the decision is on the third.
        let living: Vec<Lineage> = [3, 10, 17, 24, 30].map(generation).into();
        let members = below(&living, 3);
        assert!([10, 17, 24, 30].iter().all(|cookie| members.contains(cookie)), "{members:?}");
        assert!(!members.contains(&2) && !members.contains(&1), "ancestors are no members");
        let stranger = Lineage { cookie: 99, root: 98, near: [98, 0, 0, 0, 0, 0, 0, 0], ..Lineage::default() };
        assert!(!below(&[generation(3), stranger], 3).contains(&99));
    }
}
