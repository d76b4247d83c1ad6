//! The command line's end of the socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use super::protocol::{Answer, ApiError, Call, Request, VERSION};

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent answers on {}: {source}; start one with `sudo stockade run`, or name its socket with --socket", path.display())]
    NoAgent {
        /// Where.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the agent went away: {0}")]
    Gone(#[from] std::io::Error),
    /// The agent refused.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// The answer is not what this version expects.
    #[error("the agent's answer cannot be read: {0}; is it of another version?")]
    Answer(#[from] serde_json::Error),
}

/// A connection.
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to an agent.
    ///
    /// # Errors
    ///
    /// When nobody listens, or the caller may not.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream =
            UnixStream::connect(path).map_err(|source| ClientError::NoAgent { path: path.to_path_buf(), source })?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// When the agent refuses or goes away.
    pub fn ask<T: DeserializeOwned>(&mut self, request: Request) -> Result<T, ClientError> {
        let mut line = serde_json::to_vec(&Call { version: VERSION, request })?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        let mut answer = String::new();
        if self.stream.read_line(&mut answer)? == 0 {
            return Err(ClientError::Gone(std::io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&answer)? {
            Answer::Ok(value) => Ok(serde_json::from_value(value)?),
            Answer::Error(error) => Err(error.into()),
        }
    }

    /// Asks for a stream.
    ///
    /// # Errors
    ///
    /// As [`Client::ask`].
    pub fn watch(mut self, request: Request) -> Result<impl Iterator<Item = Result<Value, ClientError>>, ClientError> {
        self.ask::<Value>(request)?;
        Ok(self.stream.lines().map(|line| Ok(serde_json::from_str(&line?)?)))
    }
}
