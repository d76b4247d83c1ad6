//! The model as bytes: versioned, checksummed, and continued bit for bit.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

const MAGIC: [u8; 4] = *b"STKM";
/// Version of the content. Another one is refused: a baseline is not guessed.
const VERSION: u16 = 5;
const HEADER: usize = 4 + 2 + 4;

/// Why bytes are not a model.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// Too short, or something else.
    #[error("this is not a model snapshot")]
    NotASnapshot,
    /// Written by another version.
    #[error(
        "the model snapshot has version {0}, this version reads {VERSION}: it has to learn anew, or be restored by the version that wrote it"
    )]
    Version(u16),
    /// Checksum and bytes differ.
    #[error("the model snapshot is damaged: its checksum does not match")]
    Damaged,
    /// The checksum is right, the content is not.
    #[error("the model snapshot cannot be read: {0}")]
    Content(#[from] postcard::Error),
    /// The content can be read, but no model can have become so.
    #[error("the model snapshot is impossible: {0} cannot have been learnt; it has to learn anew")]
    Impossible(&'static str),
    /// Parameters that no version accepts.
    #[error("the model snapshot holds impossible parameters: {0}")]
    Params(#[from] crate::params::ParamsError),
}

pub(crate) fn write(value: &impl Serialize) -> Result<Vec<u8>, SnapshotError> {
    let content = postcard::to_stdvec(value)?;
    let mut bytes = Vec::with_capacity(HEADER + content.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&content).to_le_bytes());
    bytes.extend_from_slice(&content);
    Ok(bytes)
}

pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SnapshotError> {
    let [m0, m1, m2, m3, v0, v1, c0, c1, c2, c3, content @ ..] = bytes else {
        return Err(SnapshotError::NotASnapshot);
    };
    if [*m0, *m1, *m2, *m3] != MAGIC {
        return Err(SnapshotError::NotASnapshot);
    }
    let version = u16::from_le_bytes([*v0, *v1]);
    if version != VERSION {
        return Err(SnapshotError::Version(version));
    }
    if u32::from_le_bytes([*c0, *c1, *c2, *c3]) != crc32c::crc32c(content) {
        return Err(SnapshotError::Damaged);
    }
    Ok(postcard::from_bytes(content)?)
}
