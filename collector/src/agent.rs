//! Wires the stages together: threads, bounded channels, start and ordered shutdown.
