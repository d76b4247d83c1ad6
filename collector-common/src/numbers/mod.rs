//! Syscall numbers, by architecture; the tables are generated.
//!
//! There is one number space: **a token's number is x86-64's**, whatever the machine. Elsewhere the kernel program looks the
//! number up once a call ([`aarch64_to_x86_64`]). So names, argument classes, triggers, trigrams and models need no second
//! version, and a baseline learnt on one architecture can be read on the other. What x86-64 does not have is
//! [`crate::token::OTHER`].

pub mod aarch64;
pub mod arm;
pub mod ia32;
pub mod x86_64;

/// [`aarch64::CALLS`] as a table for the kernel: x86-64's number by aarch64's, [`crate::token::OTHER`] where there is none.
pub const fn aarch64_to_x86_64() -> [u16; 512] {
    let mut table = [crate::token::OTHER; 512];
    let mut at = 0;
    while at < aarch64::CALLS.len() {
        let (here, there) = aarch64::CALLS[at];
        table[here as usize] = there;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::OTHER;

    #[test]
    fn the_same_call_has_the_same_number_everywhere() {
        let table = aarch64_to_x86_64();
        // include/uapi/asm-generic/unistd.h.
        for (here, there) in [(56, x86_64::OPENAT), (63, x86_64::READ), (221, x86_64::EXECVE), (203, x86_64::CONNECT)] {
            assert_eq!(table[here], there);
        }
        assert_eq!((table[79], table[93], table[94]), (x86_64::NEWFSTATAT, x86_64::EXIT, x86_64::EXIT_GROUP));
        assert_eq!(table[244], OTHER, "a number that no call has");
        let known = table.iter().filter(|number| **number != OTHER).count();
        assert_eq!(known, aarch64::CALLS.len());
        assert!(aarch64::CALLS.iter().all(|(_, there)| *there < crate::token::URING));
    }
}
