//! Runs a recorded file through decode to policy, without privileges.
