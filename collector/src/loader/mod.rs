//! Puts the kernel programs in place and says what could not be.
