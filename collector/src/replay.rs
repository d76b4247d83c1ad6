//! Reads a recorded file frame by frame, without privileges; what comes out goes through decode to policy like a ring's.

pub mod run;

use std::io::{self, Read};

use collector_common::ABI;
use thiserror::Error;

use crate::record::{FORMAT, FRAME_END, FRAME_NOTE, FRAME_RECORD, Info, LONGEST, MAGIC, Note, checksum};

/// One frame of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Bytes of a kernel record, not decoded.
    Record(Vec<u8>),
    /// A note.
    Note(Note),
}

/// Why a recording cannot be read, or not further.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The file could not be read.
    #[error("cannot read the recording at byte {offset}: {source}")]
    Read {
        /// Where.
        offset: u64,
        /// Cause.
        source: io::Error,
    },
    /// It does not begin like a recording.
    #[error("this is not a recording of stockade: its first bytes are not {:?}", String::from_utf8_lossy(&MAGIC))]
    NotARecording,
    /// Another version of the file format.
    #[error("the recording has format {0}, this version reads {FORMAT}: replay it with the version that recorded it")]
    WrongFormat(u16),
    /// Records of another layout.
    #[error(
        "the recording's records have layout version {0}, this version reads {ABI}: replay it with the version that recorded it"
    )]
    WrongAbi(u8),
    /// The file ends within a frame, or before the end frame: the recorder was killed, or the disk was full.
    #[error("the recording is cut off at byte {offset}, after {frames} whole frames: what came before was delivered")]
    Truncated {
        /// Where the file ends.
        offset: u64,
        /// Whole frames before it.
        frames: u64,
    },
    /// Checksum and bytes differ.
    #[error(
        "the recording is damaged in the frame at byte {offset}, after {frames} good ones: checksum {stored:#010x}, computed {computed:#010x}"
    )]
    BadChecksum {
        /// Where the frame begins.
        offset: u64,
        /// Good frames before it.
        frames: u64,
        /// In the file.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A length that no recorder writes.
    #[error(
        "the frame at byte {offset} claims {len} bytes, more than the {LONGEST} that a frame can have: the recording is damaged"
    )]
    TooLong {
        /// Where the frame begins.
        offset: u64,
        /// Claimed length.
        len: u32,
    },
    /// The checksum is right, but the content is not what this version knows.
    #[error("the frame at byte {offset} holds {what}: it was written by another version")]
    BadFrame {
        /// Where the frame begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// A recording being read: an iterator over its frames. After an error it ends.
#[derive(Debug)]
pub struct Recording<R: Read> {
    input: R,
    info: Info,
    offset: u64,
    frames: u64,
    ended: bool,
}

impl<R: Read> Recording<R> {
    /// Reads the header. Give it a buffered reader.
    ///
    /// # Errors
    ///
    /// When this is no recording, or one of another version.
    pub fn open(input: R) -> Result<Self, ReplayError> {
        // Only [`Recording::open`] sees this placeholder: it is replaced before anybody gets the value.
        let clock = crate::enrich::clock::Clock::real(0, 0);
        let info = Info { clock, hostname: String::new(), kernel: String::new(), agent: String::new() };
        let mut recording = Self { input, info, offset: 0, frames: 0, ended: false };
        recording.info = recording.header()?;
        Ok(recording)
    }

    /// What the recording says about itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn header(&mut self) -> Result<Info, ReplayError> {
        let mut fixed = [0; 20];
        let got = self.fill(&mut fixed)?;
        let [m0, m1, m2, m3, m4, m5, m6, m7, f0, f1, abi, _, l0, l1, l2, l3, c0, c1, c2, c3] = fixed;
        if got < MAGIC.len() || [m0, m1, m2, m3, m4, m5, m6, m7] != MAGIC {
            return Err(ReplayError::NotARecording);
        }
        if got < fixed.len() {
            return Err(self.truncated());
        }
        match (u16::from_le_bytes([f0, f1]), abi) {
            (FORMAT, ABI) => (),
            (FORMAT, abi) => return Err(ReplayError::WrongAbi(abi)),
            (format, _) => return Err(ReplayError::WrongFormat(format)),
        }
        let offset = self.offset;
        let payload = self.payload(0, u32::from_le_bytes([l0, l1, l2, l3]))?;
        self.verify(0, u32::from_le_bytes([c0, c1, c2, c3]), crc32c::crc32c(&payload))?;
        whole(&payload).ok_or(ReplayError::BadFrame { offset, what: "a header that cannot be read" })
    }

    fn frame(&mut self) -> Result<Option<Frame>, ReplayError> {
        let offset = self.offset;
        let mut fixed = [0; 9];
        if self.fill(&mut fixed)? < fixed.len() {
            return Err(self.truncated());
        }
        let [l0, l1, l2, l3, kind, c0, c1, c2, c3] = fixed;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let payload = self.payload(offset, len)?;
        self.verify(offset, u32::from_le_bytes([c0, c1, c2, c3]), checksum(len, kind, &payload))?;
        self.frames += 1;
        match kind {
            FRAME_RECORD => Ok(Some(Frame::Record(payload))),
            FRAME_NOTE => {
                let note =
                    whole(&payload).ok_or(ReplayError::BadFrame { offset, what: "a note that cannot be read" })?;
                Ok(Some(Frame::Note(note)))
            }
            FRAME_END => Ok(None),
            _ => Err(ReplayError::BadFrame { offset, what: "an unknown kind of frame" }),
        }
    }

    fn payload(&mut self, frame: u64, len: u32) -> Result<Vec<u8>, ReplayError> {
        if len as usize > LONGEST {
            return Err(ReplayError::TooLong { offset: frame, len });
        }
        let mut payload = vec![0; len as usize];
        if self.fill(&mut payload)? < payload.len() {
            return Err(self.truncated());
        }
        Ok(payload)
    }

    fn verify(&self, offset: u64, stored: u32, computed: u32) -> Result<(), ReplayError> {
        if stored != computed {
            return Err(ReplayError::BadChecksum { offset, frames: self.frames, stored, computed });
        }
        Ok(())
    }

    /// Reads until the buffer is full or the file ends; says how much it got.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, ReplayError> {
        let mut got = 0;
        while got < buffer.len() {
            match self.input.read(&mut buffer[got..]) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => (),
                Err(source) => return Err(ReplayError::Read { offset: self.offset + got as u64, source }),
            }
        }
        self.offset += got as u64;
        Ok(got)
    }

    fn truncated(&self) -> ReplayError {
        ReplayError::Truncated { offset: self.offset, frames: self.frames }
    }
}

/// A value that takes up all of the bytes.
fn whole<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}

impl<R: Read> Iterator for Recording<R> {
    type Item = Result<Frame, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let frame = self.frame().transpose();
        self.ended = !matches!(frame, Some(Ok(_)));
        frame
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::enrich::clock::Clock;
    use crate::enrich::runtime::{ContainerInfo, PodInfo};
    use crate::policy::mode::Mode;
    use crate::record::Recorder;

    fn info() -> Info {
        Info {
            clock: Clock::real(5, 1_700_000_000_000_000_000),
            hostname: "web-1".into(),
            kernel: "6.12".into(),
            agent: "0.1".into(),
        }
    }

    fn frames() -> Vec<Frame> {
        let pod = PodInfo { namespace: "a".into(), kind: "Pod".into(), name: "b".into(), container: "c".into() };
        let container = ContainerInfo { pod: Some(pod), ..ContainerInfo::default() };
        vec![
            Frame::Note(Note::Seed(7)),
            Frame::Note(Note::Cgroup { id: 9, path: Some("/x".into()) }),
            Frame::Record(vec![1, 2, 3]),
            Frame::Note(Note::Process { pid: 3, exec: None }),
            Frame::Note(Note::Container { id: "ab".into(), info: Some(container) }),
            Frame::Note(Note::Clock(Clock { boot_ns: 1, unix_ns: 2, factor: 3_600.0 })),
            Frame::Note(Note::Mode { workload: "unit:x".into(), mode: Mode::Enforcing }),
            Frame::Record(vec![0; 700]),
            Frame::Record(Vec::new()),
        ]
    }

    fn written(frames: &[Frame]) -> Vec<u8> {
        let mut recorder = Recorder::new(Vec::new(), &info()).unwrap();
        for frame in frames {
            match frame {
                Frame::Record(bytes) => recorder.record(bytes).unwrap(),
                Frame::Note(note) => recorder.note(note).unwrap(),
            }
        }
        let promised = recorder.bytes();
        let bytes = recorder.finish().unwrap();
        assert_eq!(bytes.len() as u64, promised + 25);
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<Frame>, Option<ReplayError>) {
        let mut good = Vec::new();
        let recording = match Recording::open(bytes) {
            Ok(recording) => recording,
            Err(error) => return (good, Some(error)),
        };
        for frame in recording {
            match frame {
                Ok(frame) => good.push(frame),
                Err(error) => return (good, Some(error)),
            }
        }
        (good, None)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let bytes = written(&frames());
        assert_eq!(Recording::open(&bytes[..]).unwrap().info(), &info());
        let (read, error) = read(&bytes);
        assert_eq!(read, frames());
        assert!(error.is_none());
    }

    #[test]
    fn a_cut_file_delivers_what_came_before() {
        let bytes = written(&frames());
        let header = written(&[]).len() - 25;
        for end in header..bytes.len() {
            let (read, error) = read(&bytes[..end]);
            assert_eq!(read[..], frames()[..read.len()], "cut at {end}");
            match error {
                Some(ReplayError::Truncated { offset, frames }) => {
                    assert_eq!((offset, frames), (end as u64, read.len() as u64));
                }
                other => panic!("cut at {end}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_damaged_frame_is_named_by_its_offset() {
        let mut bytes = written(&[Frame::Record(vec![1, 2, 3]), Frame::Record(vec![4, 5, 6])]);
        let second = bytes.len() - 25 - 12;
        bytes[second + 10] ^= 1;
        let (read, error) = read(&bytes);
        assert_eq!(read, [Frame::Record(vec![1, 2, 3])]);
        assert!(matches!(error, Some(ReplayError::BadChecksum { offset, frames: 1, .. }) if offset == second as u64));
    }

    #[test]
    fn other_files_and_other_versions_are_refused() {
        assert!(matches!(read(b"").1, Some(ReplayError::NotARecording)));
        assert!(matches!(read(b"#!/bin/sh\nexit 0\n and more of it").1, Some(ReplayError::NotARecording)));
        let mut bytes = written(&[]);
        bytes[8] = 9;
        assert!(matches!(read(&bytes).1, Some(ReplayError::WrongFormat(9))));
        bytes[8] = FORMAT as u8;
        bytes[10] = ABI + 1;
        assert!(matches!(read(&bytes).1, Some(ReplayError::WrongAbi(_))));
    }

    #[test]
    fn nothing_longer_than_a_frame_is_written_or_read() {
        let mut recorder = Recorder::new(Vec::new(), &info()).unwrap();
        recorder.record(&vec![0; LONGEST]).unwrap();
        assert!(recorder.record(&vec![0; LONGEST + 1]).is_err());
        let mut bytes = written(&[]);
        let frame = bytes.len() - 25;
        bytes[frame + 2] = 0xff;
        assert!(matches!(read(&bytes).1, Some(ReplayError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn flipped_bits_are_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = written(&frames());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (read, error) = read(&bytes);
            // Byte 11 is the one that means nothing.
            prop_assert_eq!(error.is_some(), at != 11);
            prop_assert_eq!(&read[..], &frames()[..read.len()]);
        }

        #[test]
        fn any_bytes_behind_a_good_header_give_an_answer(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = written(&[]);
            bytes.truncate(bytes.len() - 25);
            bytes.extend(tail);
            let _ = read(&bytes);
        }

        #[test]
        fn any_note_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = whole::<Note>(&bytes);
            let _ = whole::<Info>(&bytes);
        }
    }
}
