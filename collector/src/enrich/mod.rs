//! Adds process, executable and workload to a decoded record.
