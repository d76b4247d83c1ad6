//! Names that people type: `F-7Q2KD` for a finding, `D-31F8A` for a decision.

/// A letter and the number's last 25 bits in Crockford's base 32: five characters without i, l, o and u, which are mistaken
/// for others.
pub fn short_name(letter: char, number: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digits: String = (0..5).rev().map(|place| DIGITS[(number >> (place * 5) & 31) as usize] as char).collect();
    format!("{letter}-{digits}")
}
