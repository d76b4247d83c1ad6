//! Reads the two ring buffers.
