//! The spool as callers see it, and what it knows of its files.

use crate::files::{self, Position};
use crate::format::{self, MAX_PAYLOAD};
use crate::writer::Command;
use crate::{SpoolError, SpoolOptions};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Bytes that may wait to be written.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// A spool. Clones share it; with the last one it is closed.
#[derive(Clone, Debug)]
pub struct Spool {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: SpoolOptions,
    pub(crate) state: Mutex<State>,
    /// Bytes that wait to be written.
    pub(crate) queued: AtomicUsize,
    pub(crate) position: File,
    /// Held as long as the spool is.
    pub(crate) _lock: File,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Ascending. The last one may be written to.
    pub(crate) segments: VecDeque<Segment>,
    /// Where in the first segment the first record stands that wasn't released.
    pub(crate) cursor: u64,
    /// The number of the next record.
    pub(crate) next: u64,
    /// The number of the last record that was released since the start.
    pub(crate) released: u64,
    /// Records that weren't released.
    pub(crate) entries: u64,
    /// When the first of them was appended, or one shortly before it.
    pub(crate) oldest: Option<Timestamp>,
    /// Why the last write failed, if it did.
    pub(crate) failing: Option<String>,
    /// The last segment is written to.
    pub(crate) active: bool,
    /// Right now.
    pub(crate) writing: bool,
    /// What was set aside since the start, in bytes.
    pub(crate) set_aside: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) id: [u8; 8],
    /// Up to where it is durable.
    pub(crate) len: u64,
    pub(crate) path: PathBuf,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number: ascending in the order of appends, with gaps.
    pub sequence: u64,
    /// When it was appended.
    pub spooled_at: Timestamp,
    /// What was appended.
    pub payload: Vec<u8>,
    /// Where the next one stands: segment and offset.
    after: (u64, u64),
}

/// How a spool stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Records that weren't released.
    pub entries: u64,
    /// Bytes that the segments take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
    /// When the oldest record was appended.
    pub oldest: Option<Timestamp>,
    /// Why the last write failed, if it did.
    pub failing: Option<String>,
    /// Whether an ordinary record still fits.
    pub has_room: bool,
    /// Whether more than half of what it may take is taken.
    pub is_half_full: bool,
    /// Bytes that were set aside since the start.
    pub set_aside: u64,
}

impl State {
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// Forgets the first segment, and its file. A file that can't be removed is read again at the
    /// next start.
    fn remove_first(&mut self) {
        if let Some(segment) = self.segments.pop_front()
            && let Err(error) = std::fs::remove_file(&segment.path)
        {
            tracing::warn!(%error, path = %segment.path.display(), "a released segment can't be removed");
        }
        self.cursor = format::HEADER as u64;
    }

    /// Lets segments go of which everything was released.
    pub(crate) fn trim(&mut self) {
        while let Some(first) = self.segments.front() {
            let last = self.segments.len() == 1;
            if self.cursor < first.len || (last && self.writing) {
                break;
            }
            if last {
                self.active = false;
            }
            self.remove_first();
        }
        if self.segments.is_empty() {
            self.entries = 0;
            self.oldest = None;
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool {
    /// Keeps a record; comes back when it is fsynced. Given up by its caller, it may be kept all
    /// the same.
    ///
    /// # Errors
    ///
    /// It isn't kept: the spool is full, the disk fails, or too much waits to be written.
    pub async fn append(&self, payload: Vec<u8>) -> Result<(), SpoolError> {
        let length = payload.len();
        if length > MAX_PAYLOAD {
            return Err(SpoolError::TooLarge(length));
        }
        if self.shared.queued.load(Ordering::Relaxed) + length > QUEUE_BYTES {
            return Err(SpoolError::Busy);
        }
        self.shared.queued.fetch_add(length, Ordering::Relaxed);
        let (reply, done) = oneshot::channel();
        let command = Command::Append { payload, reply };
        self.ask(command, done).await
    }

    /// Whether it could keep a record: has room, and a file can be written and fsynced.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn check(&self) -> Result<(), SpoolError> {
        let (reply, done) = oneshot::channel();
        self.ask(Command::Probe { reply }, done).await
    }

    async fn ask(
        &self,
        command: Command,
        done: oneshot::Receiver<Result<(), SpoolError>>,
    ) -> Result<(), SpoolError> {
        let closed = || SpoolError::Failed("its writer has ended".to_owned());
        self.commands.send(command).map_err(|_| closed())?;
        done.await.unwrap_or_else(|_| Err(closed()))
    }

    /// The first records that weren't released, in order: up to `most`, and about `bytes` of
    /// them. Blocks the thread.
    ///
    /// # Errors
    ///
    /// A segment can't be read.
    pub fn read(&self, most: usize, bytes: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if most == 0 {
            return Ok(entries);
        }
        loop {
            let (segments, mut cursor) = {
                let state = self.shared.lock();
                (state.segments.clone(), state.cursor)
            };
            let mut left = bytes;
            let mut damaged = None;
            for segment in &segments {
                match read_segment(segment, cursor, most - entries.len(), left)? {
                    Some(read) => {
                        left = left.saturating_sub(read.iter().map(|e| e.payload.len()).sum());
                        entries.extend(read);
                    }
                    // It is passed when it is the first.
                    None if entries.is_empty() => damaged = Some(segment),
                    None => break,
                }
                if damaged.is_some() || entries.len() >= most || left == 0 {
                    break;
                }
                cursor = format::HEADER as u64;
            }
            match damaged {
                Some(segment) => self.pass_damage(segment, cursor)?,
                None => break,
            }
        }
        if let Some(first) = entries.first() {
            self.shared.lock().oldest = Some(first.spooled_at);
        }
        Ok(entries)
    }

    /// A record that was sound can't be read any more: keeps a copy of its segment, and moves on
    /// to the next sound one.
    fn pass_damage(&self, segment: &Segment, from: u64) -> io::Result<()> {
        let mut bytes = std::fs::read(&segment.path)?;
        // What is being written behind it isn't anybody's yet.
        bytes.truncate(usize::try_from(segment.len).unwrap_or(usize::MAX));
        let start = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
        let next = format::scan(&bytes)
            .into_iter()
            .flat_map(|scan| scan.records)
            .map(|found| found.start)
            .find(|found| *found > start)
            .unwrap_or(bytes.len());
        let directory = &self.shared.options.directory;
        let kept = files::set_aside(directory, segment.first, from, &bytes[start..next])?;
        tracing::error!(
            path = %segment.path.display(),
            kept = %kept.display(),
            bytes = next - start,
            "a part of the spool can't be read any more and was set aside: the disk may be damaged"
        );
        let mut state = self.shared.lock();
        state.set_aside += (next - start) as u64;
        if state.segments.front().map(|first| first.first) == Some(segment.first) {
            state.cursor = next as u64;
            state.trim();
        }
        Ok(())
    }

    /// Keeps a record apart that nobody takes, for people to look at; it can be released then.
    /// Blocks the thread.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn set_aside(&self, entry: &Entry) -> io::Result<PathBuf> {
        let directory = &self.shared.options.directory;
        let kept = files::set_aside(directory, entry.after.0, entry.after.1, &entry.payload)?;
        self.shared.lock().set_aside += entry.payload.len() as u64;
        Ok(kept)
    }

    /// Lets `entries`, the first that weren't released, go: somebody else has them.
    pub fn release(&self, entries: &[Entry]) {
        let Some(last) = entries.last() else {
            return;
        };
        let (segment, offset) = last.after;
        let mut state = self.shared.lock();
        state.released = last.sequence;
        while state
            .segments
            .front()
            .is_some_and(|first| first.first < segment)
        {
            state.remove_first();
        }
        state.cursor = offset;
        state.entries = state.entries.saturating_sub(entries.len() as u64);
        state.trim();
        let position = state.segments.front().map(|first| Position {
            segment: first.first,
            id: first.id,
            offset: state.cursor,
        });
        drop(state);
        // One that can't be written costs records that are read again after a restart.
        if let Some(position) = position
            && let Err(error) = position.save(&self.shared.position)
        {
            tracing::debug!(%error, "the spool's position can't be written");
        }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = self.shared.lock();
        let bytes = state.bytes();
        Status {
            entries: state.entries,
            bytes,
            oldest: state.oldest.filter(|_| state.entries > 0),
            failing: state.failing.clone(),
            max_bytes: self.shared.options.max_bytes,
            has_room: bytes + (64 * 1024) <= self.shared.options.max_bytes,
            is_half_full: bytes > self.shared.options.max_bytes / 2,
            set_aside: state.set_aside,
        }
    }

    /// A number above those of all records that are in it.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.shared.lock().next
    }

    /// Whether a record with a number below `mark` is in it.
    #[must_use]
    pub fn holds_below(&self, mark: u64) -> bool {
        let state = self.shared.lock();
        state.entries > 0 && state.released + 1 < mark
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.lock().entries == 0
    }
}

/// Records of a segment, from an offset; one at least, unless there is none. `None` where what
/// stands there is no record.
fn read_segment(
    segment: &Segment,
    from: u64,
    most: usize,
    bytes: usize,
) -> io::Result<Option<Vec<Entry>>> {
    let left = usize::try_from(segment.len.saturating_sub(from)).unwrap_or(usize::MAX);
    let length = left.min(bytes.max(format::record_len(MAX_PAYLOAD)));
    let mut buffer = vec![0; length];
    File::open(&segment.path)?.read_exact_at(&mut buffer, from)?;
    let mut entries = Vec::new();
    let mut at = 0;
    while at < buffer.len() && entries.len() < most && (at < bytes || entries.is_empty()) {
        let Some(record) = format::decode(&buffer[at..]) else {
            break;
        };
        at += record.len;
        entries.push(Entry {
            sequence: record.sequence,
            spooled_at: record.at,
            payload: record.payload.to_vec(),
            after: (segment.first, from + at as u64),
        });
    }
    Ok(Some(entries).filter(|entries| !entries.is_empty() || left == 0))
}
