//! The files of a segment: a compressed snapshot, and a compressed log whose entries are a length and as many bytes.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use model::Model;
use model::purge::Said;

use super::HistoryError;

/// Longest entry: an event with all of its names is far shorter.
const LONGEST: usize = 1 << 20;

/// Writes a log.
pub(super) struct Writer {
    encoder: GzEncoder<Counted>,
}

/// How much has been written.
struct Counted {
    file: BufWriter<File>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Writer {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        Ok(Self { encoder: GzEncoder::new(Counted { file, bytes: 0 }, Compression::fast()) })
    }

    pub(super) fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > LONGEST {
            return Err(io::Error::other(format!("an entry has {} bytes, at most {LONGEST} are kept", bytes.len())));
        }
        self.encoder.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.encoder.write_all(bytes)
    }

    /// Bytes on disk, or about to be.
    pub(super) fn bytes(&self) -> u64 {
        self.encoder.get_ref().bytes
    }

    /// Makes everything so far readable.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.encoder.finish()?.flush()
    }
}

/// Reads a log that may still be written.
pub(super) struct Reader {
    decoder: GzDecoder<BufReader<File>>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { decoder: GzDecoder::new(BufReader::new(File::open(path)?)) })
    }

    /// The next entry as bytes.
    pub(super) fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.decoder.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > LONGEST {
            return Err(io::Error::other(format!("an entry claims {length} bytes")));
        }
        let mut bytes = vec![0; length];
        self.decoder.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// An entry from its bytes.
pub(super) fn said(bytes: &[u8]) -> Result<Said, String> {
    Said::from_bytes(bytes).map_err(|error| error.to_string())
}

/// Writes a checkpoint; how many bytes it has.
pub(super) fn write_checkpoint(path: &Path, model: &Model) -> Result<u64, String> {
    let bytes = model.snapshot().map_err(|error| error.to_string())?;
    let write = || -> io::Result<u64> {
        let mut encoder = GzEncoder::new(File::create(path)?, Compression::fast());
        encoder.write_all(&bytes)?;
        encoder.finish()?;
        Ok(std::fs::metadata(path)?.len())
    };
    write().map_err(|error| error.to_string())
}

/// Reads a checkpoint.
pub(super) fn read_checkpoint(path: &Path) -> Result<Model, HistoryError> {
    let failed = |why: String| HistoryError::Read { path: path.to_owned(), why };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    GzDecoder::new(BufReader::new(file)).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    Model::restore(&bytes).map_err(|error| failed(error.to_string()))
}

/// Checksum of a model's bytes.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}
