//! One message as the spool keeps it, and the pure parser of a segment.
//!
//! A segment is the 8 bytes of [`MAGIC`] and then frames: `length u32 | crc32c u32 | body`, everything little-endian, where
//! the body is `id length u16 | id | key length u16 | key | value`. The length counts the body, the checksum covers length
//! and body. There is no index: a segment can be read with nothing but itself.

/// Begins every segment; the last byte is the version.
pub const MAGIC: [u8; 8] = *b"STKSPOL\x01";

/// Longest body. What is longer would be refused by a broker with default settings anyway.
pub const MAX_BODY: usize = 1 << 20;

/// Bytes before a body.
pub const PREFIX: usize = 8;

/// One encoded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Names the message: a message that is sent twice carries the same one.
    pub id: String,
    /// What orders it: `host|workload`.
    pub key: String,
    /// JSON.
    pub value: Vec<u8>,
}

impl Frame {
    /// Bytes that it takes in a segment.
    pub fn stored_len(&self) -> usize {
        PREFIX + 4 + self.id.len() + self.key.len() + self.value.len()
    }

    /// Appends it to a segment. False: too long, nothing was written.
    pub fn append_to(&self, segment: &mut Vec<u8>) -> bool {
        let body = self.stored_len() - PREFIX;
        let (Ok(id), Ok(key)) = (u16::try_from(self.id.len()), u16::try_from(self.key.len())) else { return false };
        if body > MAX_BODY {
            return false;
        }
        let start = segment.len();
        segment.extend_from_slice(&(body as u32).to_le_bytes());
        segment.extend_from_slice(&[0; 4]);
        segment.extend_from_slice(&id.to_le_bytes());
        segment.extend_from_slice(self.id.as_bytes());
        segment.extend_from_slice(&key.to_le_bytes());
        segment.extend_from_slice(self.key.as_bytes());
        segment.extend_from_slice(&self.value);
        let sum = checksum(&segment[start..start + 4], &segment[start + PREFIX..]);
        segment[start + 4..start + PREFIX].copy_from_slice(&sum.to_le_bytes());
        true
    }
}

/// Why parsing stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing is left.
    Complete,
    /// A frame begins and the bytes end: a torn write, or there is more to read.
    Truncated,
    /// The bytes are not a frame. What follows cannot be found any more.
    Corrupt,
}

/// Reads frames from bytes that begin at a frame. Gives each frame with the offset behind it, and why it stopped; never
/// panics, whatever the bytes.
pub fn parse(bytes: &[u8]) -> (Vec<(Frame, usize)>, End) {
    let mut frames = Vec::new();
    let mut at = 0;
    loop {
        match parse_one(&bytes[at..]) {
            Ok(Some((frame, length))) => {
                at += length;
                frames.push((frame, at));
            }
            Ok(None) => return (frames, End::Complete),
            Err(end) => return (frames, end),
        }
    }
}

fn parse_one(bytes: &[u8]) -> Result<Option<(Frame, usize)>, End> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let length = u32_at(bytes, 0).ok_or(End::Truncated)? as usize;
    if length > MAX_BODY {
        return Err(End::Corrupt);
    }
    let sum = u32_at(bytes, 4).ok_or(End::Truncated)?;
    let body = bytes.get(PREFIX..PREFIX + length).ok_or(End::Truncated)?;
    if checksum(&bytes[..4], body) != sum {
        return Err(End::Corrupt);
    }
    let frame = parse_body(body).ok_or(End::Corrupt)?;
    Ok(Some((frame, PREFIX + length)))
}

fn parse_body(body: &[u8]) -> Option<Frame> {
    let (id, rest) = text(body)?;
    let (key, value) = text(rest)?;
    Some(Frame { id, key, value: value.to_vec() })
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let length = usize::from(u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?));
    let text = std::str::from_utf8(bytes.get(2..2 + length)?).ok()?;
    Some((text.to_owned(), &bytes[2 + length..]))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn checksum(length: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(length), body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let frame = (".{0,20}", ".{0,20}", proptest::collection::vec(any::<u8>(), 0..200));
        proptest::collection::vec(frame.prop_map(|(id, key, value)| Frame { id, key, value }), 0..8)
    }

    fn written(frames: &[Frame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            assert!(frame.append_to(&mut bytes));
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<Frame>, End) {
        let (frames, end) = parse(bytes);
        (frames.into_iter().map(|(frame, _)| frame).collect(), end)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(frames in frames()) {
            prop_assert_eq!(read(&written(&frames)), (frames, End::Complete));
        }

        #[test]
        fn a_torn_tail_costs_only_the_torn_frame(frames in frames(), cut in any::<proptest::sample::Index>()) {
            let bytes = written(&frames);
            let cut = cut.index(bytes.len() + 1);
            let (got, end) = parse(&bytes[..cut]);
            let whole = got.last().map_or(0, |(_, end)| *end);
            prop_assert_eq!(end, if whole == cut { End::Complete } else { End::Truncated });
            for (index, (frame, _)) in got.iter().enumerate() {
                prop_assert_eq!(frame, &frames[index]);
            }
            prop_assert!(got.len() == frames.len() || whole + frames[got.len()].stored_len() > cut);
        }

        #[test]
        fn a_flipped_bit_never_changes_a_message(frames in frames(), at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let mut bytes = written(&frames);
            prop_assume!(!bytes.is_empty());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (got, end) = read(&bytes);
            prop_assert_ne!(end, End::Complete);
            prop_assert_eq!(&got[..], &frames[..got.len()]);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            parse(&bytes);
        }
    }

    #[test]
    fn a_body_that_is_too_long_is_refused_without_a_trace() {
        let mut bytes = vec![7];
        let frame = Frame { id: "i".into(), key: "k".into(), value: vec![0; MAX_BODY] };
        assert!(!frame.append_to(&mut bytes));
        assert_eq!(bytes, [7]);
    }
}
