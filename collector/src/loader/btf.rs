//! The little of BTF that finds a field: structures, their members, and the types between them.
//!
//! The format is `Documentation/bpf/btf.rst` of the kernel. A general parser builds every one of the kernel's 150,000 types
//! first and takes seconds; this one walks the bytes and keeps where each type begins.

use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_TYPE_TAG: u32 = 18;
/// Modifiers and typedefs that may stand between a member and its structure.
const CHAIN: usize = 16;
/// Anonymous structures within each other.
const DEPTH: usize = 8;
/// Members that one search may look at: damaged types could otherwise lead back to themselves at every level.
const MEMBERS: usize = 65_536;

/// Why the types cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BtfError {
    /// Not BTF, or of another byte order.
    #[error("these are not this machine's BTF types")]
    Magic,
    /// The bytes end within a type, or a type is of an unknown kind.
    #[error("the BTF is damaged or of a newer kind at byte {0}")]
    Damaged(usize),
}

/// The kernel's types.
pub struct Types<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins; index 0 is type 1.
    starts: Vec<usize>,
}

impl<'a> Types<'a> {
    /// Finds where every type begins.
    ///
    /// # Errors
    ///
    /// When the bytes are not whole BTF.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let word = |at: usize| read_u32(bytes, at).ok_or(BtfError::Damaged(at));
        if bytes.len() < 24 || u16::from_le_bytes([bytes[0], bytes[1]]) != MAGIC {
            return Err(BtfError::Magic);
        }
        let header = word(4)? as usize;
        let part = |offset: usize, len: usize| {
            let start = header.checked_add(offset)?;
            bytes.get(start..start.checked_add(len)?)
        };
        let types = part(word(8)? as usize, word(12)? as usize).ok_or(BtfError::Damaged(8))?;
        let strings = part(word(16)? as usize, word(20)? as usize).ok_or(BtfError::Damaged(16))?;
        let mut starts = Vec::new();
        let mut at = 0;
        while at < types.len() {
            let info = read_u32(types, at + 4).ok_or(BtfError::Damaged(at))?;
            starts.push(at);
            at += 12 + trailing_bytes(kind(info), info as usize & 0xffff).ok_or(BtfError::Damaged(at))?;
        }
        Ok(Self { bytes: types, strings, starts })
    }

    /// Byte offset of a field, by its path: `thread_info.status`. Members of anonymous structures count as their parent's.
    pub fn offset_of(&self, structure: &str, path: &str) -> Option<u64> {
        let mut id = self.structure(structure)?;
        let (mut bits, mut budget) = (0u64, MEMBERS);
        for name in path.split('.') {
            let (offset, member) = self.member(id, name.as_bytes(), DEPTH, &mut budget)?;
            bits += u64::from(offset);
            id = member;
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Whether a tracepoint's `btf_trace_<name>` is there.
    pub fn has_typedef(&self, name: &str) -> bool {
        self.find(KIND_TYPEDEF, name).is_some()
    }

    fn structure(&self, name: &str) -> Option<u32> {
        self.find(KIND_STRUCT, name)
    }

    fn find(&self, wanted: u32, name: &str) -> Option<u32> {
        let at = self.starts.iter().position(|start| {
            let info = read_u32(self.bytes, start + 4).unwrap_or(0);
            kind(info) == wanted && self.is_called(*start, name.as_bytes())
        })?;
        Some(at as u32 + 1)
    }

    /// Whether the type or member at a place has this name. Compared where it lies: there are tens of thousands.
    fn is_called(&self, at: usize, name: &[u8]) -> bool {
        let string = read_u32(self.bytes, at).and_then(|offset| self.strings.get(offset as usize..));
        string.is_some_and(|rest| rest.starts_with(name) && rest.get(name.len()) == Some(&0))
    }

    /// Bit offset and type of a member.
    fn member(&self, id: u32, name: &[u8], depth: usize, budget: &mut usize) -> Option<(u32, u32)> {
        let start = self.resolved(id)?;
        let info = read_u32(self.bytes, start + 4)?;
        // With the flag, the upper byte of an offset is the size of a bit field.
        let mask = if info >> 31 != 0 { 0x00ff_ffff } else { u32::MAX };
        for index in 0..info as usize & 0xffff {
            *budget = budget.checked_sub(1)?;
            let at = start + 12 + index * 12;
            let kind = read_u32(self.bytes, at + 4)?;
            let offset = read_u32(self.bytes, at + 8)? & mask;
            if self.is_called(at, name) {
                return Some((offset, kind));
            }
            if depth > 0
                && self.is_called(at, b"")
                && let Some((inner, kind)) = self.member(kind, name, depth - 1, budget)
            {
                return Some((offset.checked_add(inner)?, kind));
            }
        }
        None
    }

    /// The structure or union behind typedefs and modifiers.
    fn resolved(&self, mut id: u32) -> Option<usize> {
        for _ in 0..CHAIN {
            let start = *self.starts.get((id as usize).checked_sub(1)?)?;
            match kind(read_u32(self.bytes, start + 4)?) {
                KIND_STRUCT | KIND_UNION => return Some(start),
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = read_u32(self.bytes, start + 8)?;
                }
                _ => return None,
            }
        }
        None
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Bytes after the twelve that every type has.
fn trailing_bytes(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG.
        2 | 7..=12 | 16 | 18 => 0,
        // INT, VAR, DECL_TAG.
        1 | 14 | 17 => 4,
        // ARRAY.
        3 => 12,
        // STRUCT, UNION, DATASEC, ENUM64.
        4 | 5 | 15 | 19 => members * 12,
        // ENUM, FUNC_PROTO.
        6 | 13 => members * 8,
        _ => return None,
    })
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct outer { int a; struct { int b; struct inner in; }; }; struct inner { int c, d; };`
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0in\0inner\0c\0d\0";
        let at = |name: &str| {
            let needle = format!("\0{name}\0");
            strings.windows(needle.len()).position(|part| part == needle.as_bytes()).map_or(0, |at| at as u32 + 1)
        };
        let info = |kind: u32, members: u32| kind << 24 | members;
        let types: Vec<u32> = [
            vec![at("int"), info(1, 0), 4, 32],
            vec![at("inner"), info(4, 2), 8, at("c"), 1, 0, at("d"), 1, 32],
            vec![0, info(4, 2), 12, at("b"), 1, 0, at("in"), 2, 32],
            vec![at("outer"), info(4, 2), 16, at("a"), 1, 0, 0, 3, 32],
        ]
        .concat();
        let len = types.len() as u32 * 4;
        let header = [24u32, 0, len, len, strings.len() as u32];
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        bytes.extend(header.iter().chain(&types).flat_map(|word| word.to_le_bytes()));
        bytes.extend_from_slice(strings);
        bytes
    }

    #[test]
    fn a_field_is_found_through_anonymous_and_named_structures() {
        let bytes = sample();
        let types = Types::new(&bytes).expect("whole BTF");
        assert_eq!(types.offset_of("outer", "b"), Some(4));
        assert_eq!(types.offset_of("outer", "in.d"), Some(12));
        assert_eq!(types.offset_of("inner", "d"), Some(4));
        assert_eq!(types.offset_of("outer", "nothing"), None);
        assert_eq!(types.offset_of("int", "a"), None);
    }

    #[test]
    fn types_that_lead_back_to_themselves_end_the_search() {
        let mut bytes = sample();
        // Every member of `outer`, and of the anonymous structure in it, becomes an anonymous `outer`.
        let types = 24 + 16;
        let outer = types + 2 * 36;
        for at in [types + 36 + 12, types + 36 + 24, outer + 12, outer + 24] {
            bytes[at..at + 4].copy_from_slice(&0u32.to_le_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&4u32.to_le_bytes());
        }
        let types = Types::new(&bytes).expect("whole BTF");
        assert_eq!(types.offset_of("outer", "nothing"), None);
    }

    #[test]
    fn offsets_that_do_not_fit_are_no_offset() {
        let mut bytes = sample();
        let outer = 24 + 16 + 2 * 36;
        bytes[outer + 24 + 8..outer + 24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        let types = Types::new(&bytes).expect("whole BTF");
        assert_eq!(types.offset_of("outer", "in.d"), None);
    }

    proptest! {
        #[test]
        fn damaged_types_are_refused_or_read_but_never_panic(at in 0usize..200, value: u8, cut in 0usize..260) {
            let mut bytes = sample();
            let len = bytes.len();
            bytes[at % len] = value;
            bytes.truncate(cut);
            if let Ok(types) = Types::new(&bytes) {
                let _ = types.offset_of("outer", "in.d");
            }
        }
    }
}
