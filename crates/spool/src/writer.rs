//! The thread that writes: what many callers append is one write and one fsync.

use crate::SpoolError;
use crate::files;
use crate::format::{self, HEADER, record_len};
use crate::state::{Segment, Shared};
use jiff::Timestamp;
use postern_failpoint::failpoint;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};

/// Bytes that are written at once at most.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

type Reply = oneshot::Sender<Result<(), SpoolError>>;

#[derive(Debug)]
pub(crate) enum Command {
    Append { payload: Vec<u8>, reply: Reply },
    Probe { reply: Reply },
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// The segment that is written to.
    file: Option<File>,
}

/// What is written at once.
#[derive(Default)]
struct Group {
    appends: Vec<(Vec<u8>, Reply)>,
    probes: Vec<Reply>,
    bytes: usize,
}

impl Group {
    fn add(&mut self, command: Command) {
        match command {
            Command::Append { payload, reply } => {
                self.bytes += payload.len();
                self.appends.push((payload, reply));
            }
            Command::Probe { reply } => self.probes.push(reply),
        }
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, file: None }
    }

    /// Writes until nobody can append any more.
    pub(crate) fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let mut group = Group::default();
            group.add(first);
            while group.bytes < GROUP_BYTES
                && let Ok(next) = commands.try_recv()
            {
                group.add(next);
            }
            self.shared.queued.fetch_sub(group.bytes, Ordering::Relaxed);
            self.append(group.appends);
            if !group.probes.is_empty() {
                let result = self.probe();
                for reply in group.probes {
                    let _ = reply.send(result.clone());
                }
            }
        }
    }

    fn append(&mut self, appends: Vec<(Vec<u8>, Reply)>) {
        if appends.is_empty() {
            return;
        }
        let options = &self.shared.options;
        let mut state = self.shared.lock();
        let mut room = options
            .max_bytes
            .saturating_sub(state.bytes() + HEADER as u64);
        let mut fitting = Vec::with_capacity(appends.len());
        for (payload, reply) in appends {
            let length = record_len(payload.len()) as u64;
            if length <= room {
                room -= length;
                fitting.push((payload, reply));
            } else {
                let _ = reply.send(Err(SpoolError::Full));
            }
        }
        if fitting.is_empty() {
            return;
        }
        let now = Timestamp::now();
        let first = state.next;
        let mut buffer = Vec::new();
        for (payload, _) in &fitting {
            format::encode(&mut buffer, state.next, now, payload);
            // Never used twice, also where this fails.
            state.next += 1;
        }
        if !state.active {
            self.file = None;
        }
        let len = state.segments.back().map_or(0, |segment| segment.len);
        if len + buffer.len() as u64 > options.segment_bytes() {
            self.file = None;
        }
        state.writing = true;
        drop(state);
        let written = self.write(first, len, &buffer);
        let mut state = self.shared.lock();
        state.writing = false;
        match &written {
            Ok(made) => {
                state.segments.extend(made.clone());
                state.active = true;
                if let Some(segment) = state.segments.back_mut() {
                    segment.len += buffer.len() as u64;
                }
                if state.entries == 0 {
                    state.oldest = Some(now);
                }
                state.entries += fitting.len() as u64;
                state.failing = None;
            }
            Err(error) => {
                state.active = self.file.is_some();
                state.failing = Some(error.to_string());
            }
        }
        state.trim();
        drop(state);
        let result = written
            .map(|_| ())
            .map_err(|error| SpoolError::Failed(error.to_string()));
        for (_, reply) in fitting {
            let _ = reply.send(result.clone());
        }
    }

    /// Writes behind what is durable; gives the segment, where one was made. What fails leaves
    /// nothing behind, or closes the segment where that can't be known.
    fn write(&mut self, first: u64, len: u64, bytes: &[u8]) -> io::Result<Option<Segment>> {
        let directory = &self.shared.options.directory;
        let (file, len, made) = match &self.file {
            Some(file) => (file, len, None),
            None => {
                let (file, id) = files::create(directory, first)?;
                let segment = Segment {
                    first,
                    id,
                    len: HEADER as u64,
                    path: files::segment(directory, first),
                };
                (&*self.file.insert(file), HEADER as u64, Some(segment))
            }
        };
        let Err(error) = write_and_sync(file, len, bytes) else {
            return Ok(made);
        };
        // After an fsync that failed nobody knows what the disk has: this file isn't written to
        // again. What was fsynced before stays.
        let _ = file.set_len(len);
        self.file = None;
        if let Some(segment) = made {
            let _ = std::fs::remove_file(segment.path);
        }
        Err(error)
    }

    fn probe(&self) -> Result<(), SpoolError> {
        let options = &self.shared.options;
        let mut state = self.shared.lock();
        if state.bytes() + (64 * 1024) > options.max_bytes {
            return Err(SpoolError::Full);
        }
        drop(state);
        let probed = files::probe(&options.directory);
        state = self.shared.lock();
        state.failing = probed.as_ref().err().map(ToString::to_string);
        probed.map_err(|error| SpoolError::Failed(error.to_string()))
    }
}

fn write_and_sync(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    failpoint!("spool.write", |_| Err(io::Error::other("failpoint")));
    file.write_all_at(bytes, at)?;
    failpoint!("spool.sync", |_| Err(io::Error::other("failpoint")));
    file.sync_all()
}
