//! The only types that both the kernel programs and user space see.
//!
//! Everything here is `#[repr(C)]`, little-endian, padded explicitly, and its size is asserted at compile time. A record
//! starts with a [`Header`]; the same noun names the record here, the kernel program that writes it, the decoder that reads
//! it and the features made from it: **process**, **syscall**, **file**, **flow**, **deny**.
//!
//! Change a layout and [`ABI`] changes with it: kernel objects of another ABI are pinned in another directory, records of
//! another ABI are refused by the decoder.

#![cfg_attr(not(any(feature = "std", test)), no_std)]

pub mod deny;
pub mod file;
pub mod flow;
pub mod header;
pub mod map;
pub mod numbers;
pub mod process;
pub mod stats;
pub mod syscall;
pub mod token;

pub use header::{ExeId, Header, Kind, cookie_of};

/// Version of every layout in this crate. Part of the pin directory's name and of every record's header.
pub const ABI: u8 = 2;

/// Plain bytes: a type that may be copied to and from a byte slice.
///
/// # Safety
///
/// The type is `#[repr(C)]`, holds no reference, has no padding that is not an explicit field, and every bit pattern is a
/// valid value of it.
pub unsafe trait Plain: Copy + 'static {}

/// Reads a record of exactly `size_of::<T>()` bytes, whatever the slice's alignment; `None` when the length differs.
pub fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != core::mem::size_of::<T>() {
        return None;
    }
    // SAFETY: the length was checked above, the read is unaligned, and `Plain` promises that any bytes are a valid `T`.
    Some(unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) })
}

/// The bytes of a record, for writing it to a file or a test ring.
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `Plain` promises that there is no implicit padding, so every byte is initialised.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast::<u8>(), core::mem::size_of::<T>()) }
}

/// Declares that a type is [`Plain`], asserts its size, and makes it usable in aya's maps when the loader asks for it.
macro_rules! plain {
    ($type:ty, $size:literal) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
        // SAFETY: the type is repr(C) with explicit padding only (its size is asserted above) and integers throughout.
        unsafe impl crate::Plain for $type {}
        #[cfg(feature = "aya")]
        // SAFETY: as above; `aya::Pod` asks for the same properties.
        unsafe impl aya::Pod for $type {}
    };
}
pub(crate) use plain;
