//! The command line's end of the socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use super::protocol::{Answer, ApiError, Call, Request, VERSION};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// The caller may not connect.
    #[error("you may not use {}: become root, or a member of the group that `agent.group` names", path.display())]
    NotPermitted {
        /// Where.
        path: PathBuf,
    },
    /// It is there and does not answer.
    #[error("the agent does not answer: it is stopped or overloaded; `sudo stockade disarm` does not need it")]
    Silent,
    /// The connection broke.
    #[error("the agent went away: {0}")]
    Gone(#[source] std::io::Error),
    /// The agent refused.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// The answer is not what this version expects.
    #[error("the agent's answer cannot be read: {0}; is it of another version?")]
    Answer(#[from] serde_json::Error),
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Gone(error),
        }
    }
}

/// A connection.
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to an agent, which may take 30 s to answer.
    ///
    /// # Errors
    ///
    /// When nobody listens, or the caller may not.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        Self::connect_for(path, PATIENCE)
    }

    /// Connects to an agent, which may take as long as `patience` to answer.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn connect_for(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::PermissionDenied => ClientError::NotPermitted { path: path.to_path_buf() },
            _ => ClientError::NoAgent { path: path.to_path_buf(), source },
        })?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
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
        // Nothing may happen for days.
        self.stream.get_ref().set_read_timeout(None)?;
        Ok(self.stream.lines().map(|line| Ok(serde_json::from_str(&line?)?)))
    }
}
