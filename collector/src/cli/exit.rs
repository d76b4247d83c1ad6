//! Exit codes.

use std::process::ExitCode;

use crate::api::client::ClientError;
use crate::api::protocol::ErrorCode;
use crate::config::ConfigError;
use crate::loader::LoadError;

/// For `--help`.
pub const HELP: &str = "Exit codes: 0 fine · 1 something needs attention or failed · 2 usage or configuration · \
3 no agent answers · 4 refused (protected, not ready) · 5 not permitted";

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, and nothing to see to.
    Fine = 0,
    /// Done, but something needs attention; or a step failed.
    Attention = 1,
    /// The command or the configuration makes no sense.
    Usage = 2,
    /// No agent answers.
    NoAgent = 3,
    /// Protected, not ready, out of bounds.
    Refused = 4,
    /// The caller may not.
    NotPermitted = 5,
}

impl Exit {
    /// The code of an error.
    pub fn of(error: &anyhow::Error) -> Self {
        if error.downcast_ref::<ConfigError>().is_some() {
            return Self::Usage;
        }
        if let Some(LoadError::Privilege { .. }) = error.downcast_ref::<LoadError>() {
            return Self::NotPermitted;
        }
        match error.downcast_ref::<ClientError>() {
            Some(ClientError::NotPermitted { .. }) => Self::NotPermitted,
            Some(ClientError::NoAgent { .. } | ClientError::Silent | ClientError::Gone(_)) => Self::NoAgent,
            Some(ClientError::Refused(error)) => match error.code {
                ErrorCode::Usage => Self::Usage,
                ErrorCode::Refused => Self::Refused,
                ErrorCode::NotPermitted => Self::NotPermitted,
                ErrorCode::Failed => Self::Attention,
            },
            Some(ClientError::Answer(_)) => Self::Attention,
            None => {
                let denied = |cause: &(dyn std::error::Error + 'static)| {
                    let error = cause.downcast_ref::<std::io::Error>();
                    error.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
                };
                if error.chain().any(denied) { Self::NotPermitted } else { Self::Attention }
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
