//! What becomes of a message.

/// What the broker said about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every replica in sync has it.
    Acknowledged,
    /// It will never be taken.
    Refused(String),
    /// Not this time.
    Failed(String),
}

/// What became of an attempt to hand a message to the client.
pub enum Handed {
    /// A report will come.
    Queued,
    /// The client's queue is full: later.
    Full,
    /// It will never be taken.
    Refused(String),
    /// Not this time.
    Failed(String),
}
