//! How a segment is laid out. Numbers are little-endian.
//!
//! A segment is `POSTSPL1`, eight random bytes, and records. A record is the length of its body
//! (u32), the CRC-32 of its body (u32), and the body: sequence number (u64), time of the append
//! (i64, microseconds since 1970), payload.

use jiff::Timestamp;
use std::ops::Range;

pub(crate) const MAGIC: &[u8; 8] = b"POSTSPL1";
/// Magic and id.
pub(crate) const HEADER: usize = 16;
/// Length and checksum.
const PREFIX: usize = 8;
/// Sequence number and time.
const STAMPS: usize = 16;
/// Longest payload: a little more than the largest record that Kafka takes by default.
pub(crate) const MAX_PAYLOAD: usize = 1024 * 1024 + 64 * 1024;

/// Bytes that a record of this payload takes.
pub(crate) fn record_len(payload: usize) -> usize {
    PREFIX + STAMPS + payload
}

pub(crate) fn encode(buffer: &mut Vec<u8>, sequence: u64, at: Timestamp, payload: &[u8]) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; PREFIX]);
    buffer.extend_from_slice(&sequence.to_le_bytes());
    buffer.extend_from_slice(&at.as_microsecond().to_le_bytes());
    buffer.extend_from_slice(payload);
    let body = start + PREFIX;
    let crc = crc32fast::hash(&buffer[body..]);
    // Payloads are limited to far less.
    let length = u32::try_from(buffer.len() - body).unwrap_or(u32::MAX);
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    buffer[start + 4..body].copy_from_slice(&crc.to_le_bytes());
}

/// A record inside a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'b> {
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    pub(crate) payload: &'b [u8],
    /// Bytes that it takes.
    pub(crate) len: usize,
}

/// The record at the start of `bytes`; `None` where there is no whole and sound one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let number = |from: usize| Some(u32::from_le_bytes(*bytes.get(from..)?.first_chunk()?));
    let length = usize::try_from(number(0)?).ok()?;
    if !(STAMPS..=STAMPS + MAX_PAYLOAD).contains(&length) {
        return None;
    }
    let body = bytes.get(PREFIX..PREFIX + length)?;
    if crc32fast::hash(body) != number(4)? {
        return None;
    }
    let (sequence, rest) = body.split_first_chunk()?;
    let (at, payload) = rest.split_first_chunk()?;
    Some(Record {
        sequence: u64::from_le_bytes(*sequence),
        at: Timestamp::from_microsecond(i64::from_le_bytes(*at)).ok()?,
        payload,
        len: PREFIX + length,
    })
}

/// What a segment holds, by the bytes of its file.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Where each sound record lies, its number and its time.
    pub(crate) records: Vec<Found>,
    /// What holds no record.
    pub(crate) damaged: Vec<Range<usize>>,
}

/// A record that was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Looks through the bytes of a segment. `None` where it has no header.
pub(crate) fn scan(bytes: &[u8]) -> Option<Scan> {
    if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
        return None;
    }
    let mut scan = Scan::default();
    let mut at = HEADER;
    let mut last = 0;
    while at < bytes.len() {
        match decode(&bytes[at..]).filter(|record| record.sequence > last) {
            Some(record) => {
                last = record.sequence;
                scan.records.push(Found {
                    sequence: record.sequence,
                    at: record.at,
                    start: at,
                    end: at + record.len,
                });
                at += record.len;
            }
            None => {
                // A sound record may follow: its checksum and a higher number tell it.
                let next = (at + 1..bytes.len()).find(|start| {
                    decode(&bytes[*start..]).is_some_and(|record| record.sequence > last)
                });
                let end = next.unwrap_or(bytes.len());
                scan.damaged.push(at..end);
                at = end;
            }
        }
    }
    Some(scan)
}
