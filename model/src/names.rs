//! Names of syscalls and of sequences of them.

use std::sync::Arc;

use collector_common::token::{self, OTHER};
use syscalls::x86_64::Sysno;

/// The name of a syscall of x86-64; `other` for what a token cannot hold, `#n` for an unknown number.
pub fn syscall(number: u16) -> String {
    if number == OTHER {
        return "other".to_owned();
    }
    Sysno::new(usize::from(number)).map_or_else(|| format!("#{number}"), |sysno| sysno.name().to_owned())
}

/// `socket>connect>dup2`.
pub fn trigram(trigram: u32) -> Arc<str> {
    let part = |shift: u32| syscall((trigram >> shift) as u16 & token::NUMBER);
    format!("{}>{}>{}", part(20), part(10), part(0)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_called_by_name() {
        assert_eq!(&*trigram(token::trigram(41, 42, 33)), "socket>connect>dup2");
        assert_eq!(syscall(OTHER), "other");
        assert_eq!(syscall(1000), "#1000");
    }
}
