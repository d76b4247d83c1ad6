//! Sent = decoded + rejected + lost, per program.
