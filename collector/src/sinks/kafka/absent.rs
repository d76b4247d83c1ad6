//! In place of the Kafka client in a build without the feature `kafka`: refuses its settings, so that nothing else is reached.

use std::convert::Infallible;
use std::time::Duration;

use super::KafkaConfig;
use super::outcome::{Handed, Outcome};
use crate::sinks::SinkError;
use crate::sinks::frame::Frame;

pub struct Client(Infallible);

impl Client {
    /// # Errors
    /// Always.
    pub fn new(config: &KafkaConfig) -> Result<Self, SinkError> {
        Err(SinkError::Client {
            brokers: config.brokers.join(","),
            detail: "this stockade was built without Kafka (cargo feature `kafka`)".to_owned(),
        })
    }

    pub fn send(&self, _: &str, _: u64, _: &Frame) -> Handed {
        match self.0 {}
    }

    pub fn poll(&self, _: Duration) -> Vec<(u64, Outcome)> {
        match self.0 {}
    }

    pub fn trouble(&self) -> Option<String> {
        match self.0 {}
    }

    pub fn fatal(&self) -> Option<String> {
        match self.0 {}
    }
}

pub struct Topics(Infallible);

impl Topics {
    /// # Errors
    /// Never reached: [`Client::new`] comes first.
    pub fn start(config: &KafkaConfig) -> Result<Self, SinkError> {
        Client::new(config).map(|client| Self(client.0))
    }

    pub fn are_ready(&self) -> bool {
        match self.0 {}
    }
}
