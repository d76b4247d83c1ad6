//! What differs from one architecture to the next: where the registers of a call are, and what its number means.

/// The words of a `pt_regs` that the verifier knows.
pub type Registers = *const u64;

#[cfg(bpf_target_arch = "x86_64")]
mod native {
    pub use collector_common::numbers::ia32 as compat;

    use super::Registers;
    use crate::task::Task;

    // arch/x86/include/asm/ptrace.h, in words.
    const DX: usize = 12;
    const SI: usize = 13;
    const DI: usize = 14;
    const ORIG_AX: usize = 15;

    /// The number that the call was made with; negative when there is none.
    ///
    /// # Safety
    /// Registers of a task that are not written meanwhile.
    #[inline(always)]
    pub unsafe fn number(registers: Registers) -> i64 {
        // SAFETY: the caller's.
        unsafe { core::ptr::read_volatile(registers.add(ORIG_AX)) as i64 }
    }

    /// The first three arguments.
    ///
    /// # Safety
    /// As [`number`].
    #[inline(always)]
    pub unsafe fn arguments(registers: Registers) -> [u64; 3] {
        // SAFETY: the caller's.
        unsafe { [*registers.add(DI), *registers.add(SI), *registers.add(DX)] }
    }

    /// The number (not negative) in x86-64's table, which is the one of tokens.
    #[inline(always)]
    pub fn canonical(number: i64) -> i64 {
        number
    }

    /// Whether the current call came through a 32-bit entry: `TS_COMPAT`.
    #[inline(always)]
    pub fn in_compat_call(task: Task) -> bool {
        task.status() & 2 != 0
    }
}

#[cfg(bpf_target_arch = "aarch64")]
mod native {
    use collector_common::numbers::aarch64_to_x86_64;
    pub use collector_common::numbers::arm as compat;
    use collector_common::token::OTHER;

    use super::Registers;
    use crate::task::Task;

    // arch/arm64/include/asm/ptrace.h, in words: x0 holds the result by now, what it was stands behind the others.
    const X1: usize = 1;
    const X2: usize = 2;
    const ORIG_X0: usize = 34;
    const SYSCALLNO: usize = 35;

    static CANONICAL: [u16; 512] = aarch64_to_x86_64();

    /// The number that the call was made with; negative when there is none.
    ///
    /// # Safety
    /// Registers of a task that are not written meanwhile.
    #[inline(always)]
    pub unsafe fn number(registers: Registers) -> i64 {
        // SAFETY: the caller's; the field has four bytes.
        unsafe { core::ptr::read_volatile(registers.add(SYSCALLNO).cast::<i32>()) as i64 }
    }

    /// The first three arguments.
    ///
    /// # Safety
    /// As [`number`].
    #[inline(always)]
    pub unsafe fn arguments(registers: Registers) -> [u64; 3] {
        // SAFETY: the caller's.
        unsafe { [*registers.add(ORIG_X0), *registers.add(X1), *registers.add(X2)] }
    }

    /// The number (not negative) in x86-64's table, which is the one of tokens; [`OTHER`] for what it does not have.
    #[inline(always)]
    pub fn canonical(number: i64) -> i64 {
        if number >= 512 {
            return OTHER as i64;
        }
        // Read as if it could be anything: knowing what the table holds, the compiler drops the bounds check of the next
        // table, which the verifier insists on.
        // SAFETY: an element of the table.
        unsafe { core::ptr::read_volatile(&raw const CANONICAL[number as usize & 511]) as i64 }
    }

    /// Whether the current call is a 32-bit one: here that is a property of the program.
    #[inline(always)]
    pub fn in_compat_call(task: Task) -> bool {
        task.is_32_bit()
    }
}

pub use native::*;
