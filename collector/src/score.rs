//! Asks the model about each event.
