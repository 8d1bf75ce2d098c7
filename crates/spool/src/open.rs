//! Opening a spool: what an earlier process left is found, checked and used.

use crate::files::{self, Position};
use crate::format::{self, HEADER, Scan};
use crate::state::{Segment, Shared, Spool, State};
use crate::writer::Writer;
use crate::{SpoolError, SpoolOptions};
use jiff::Timestamp;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// An opened spool.
#[derive(Debug)]
pub struct Opened {
    /// The spool.
    pub spool: Spool,
    /// What could not be used.
    pub set_aside: Vec<SetAside>,
}

/// Bytes that held no whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where they are now.
    pub file: PathBuf,
    /// How many they are.
    pub bytes: u64,
}

impl Spool {
    /// Opens a spool, or makes one. Blocks the thread while what is there is read.
    ///
    /// # Errors
    ///
    /// Another process has it, or the directory can't be used.
    pub fn open(options: SpoolOptions) -> Result<Opened, SpoolError> {
        let directory = options.directory.clone();
        let failed = |error: io::Error| SpoolError::directory(&directory, &error);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let lock = files::lock(&directory)?;
        let mut found = Recovery::default();
        for (first, path) in files::segments(&directory).map_err(failed)? {
            found
                .take(&directory, first, path.clone())
                .map_err(|error| SpoolError::directory(path, &error))?;
        }
        found.seek(Position::load(&directory));
        let mut state = found.state;
        state.trim();
        // A number is never used twice, also where nothing is left that would tell the last one.
        let now = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0);
        state.next = state.next.max(now);
        state.set_aside = found.set_aside.iter().map(|aside| aside.bytes).sum();
        let position = Position::file(&directory).map_err(failed)?;
        let shared = Arc::new(Shared {
            options,
            state: Mutex::new(state),
            queued: AtomicUsize::new(0),
            position,
            _lock: lock,
        });
        let (commands, receiver) = mpsc::unbounded_channel();
        let writer = Writer::new(shared.clone());
        std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(failed)?;
        Ok(Opened {
            spool: Self { shared, commands },
            set_aside: found.set_aside,
        })
    }
}

/// What is found while segments are read.
#[derive(Default)]
struct Recovery {
    state: State,
    set_aside: Vec<SetAside>,
    /// The records of each segment, for the position.
    scans: Vec<Scan>,
}

impl Recovery {
    fn take(&mut self, directory: &Path, first: u64, path: PathBuf) -> io::Result<()> {
        let bytes = std::fs::read(&path)?;
        let Some(scan) = format::scan(&bytes) else {
            // A crash between making a file and writing its header leaves nothing to keep.
            if bytes.iter().any(|byte| *byte != 0) {
                self.keep(directory, first, 0, &bytes)?;
            }
            std::fs::remove_file(&path)?;
            return files::sync_directory(directory);
        };
        for range in &scan.damaged {
            self.keep(directory, first, range.start, &bytes[range.clone()])?;
        }
        let Mended { scan, len, id } = mend(&path, &bytes, scan)?;
        if let Some(last) = scan.records.last() {
            self.state.next = last.sequence + 1;
        }
        self.state.next = self.state.next.max(first + 1);
        self.state.segments.push_back(Segment {
            first,
            id,
            len: len as u64,
            path,
        });
        self.scans.push(scan);
        Ok(())
    }

    /// Keeps what can't be used for whoever wants to look at it.
    fn keep(&mut self, directory: &Path, first: u64, from: usize, bytes: &[u8]) -> io::Result<()> {
        let file = files::set_aside(directory, first, from as u64, bytes)?;
        self.set_aside.push(SetAside {
            file,
            bytes: bytes.len() as u64,
        });
        Ok(())
    }

    /// Passes what was released already, and counts what wasn't.
    fn seek(&mut self, position: Option<Position>) {
        let state = &mut self.state;
        state.cursor = HEADER as u64;
        let released = position.and_then(|position| {
            let at = state
                .segments
                .iter()
                .position(|s| (s.first, s.id) == (position.segment, position.id))?;
            Some((at, position.offset))
        });
        if let Some((at, offset)) = released {
            for segment in state.segments.drain(..at) {
                // Read again at the next start, where it can't be removed.
                let _ = std::fs::remove_file(segment.path);
            }
            self.scans.drain(..at);
            // Only where a record ends: anything else isn't believed.
            let ends = self.scans.first().is_some_and(|scan| {
                let mut ends = scan.records.iter().map(|found| found.end as u64);
                ends.any(|end| end == offset)
            });
            if ends {
                state.cursor = offset;
            }
        }
        let mut waiting = self.scans.iter().flat_map(|scan| &scan.records);
        let passed = self.scans.first().map_or(0, |scan| {
            let released = |end: usize| end as u64 <= state.cursor;
            scan.records
                .iter()
                .filter(|found| released(found.end))
                .count()
        });
        state.oldest = waiting.nth(passed).map(|found| found.at);
        let all: usize = self.scans.iter().map(|scan| scan.records.len()).sum();
        state.entries = (all - passed) as u64;
    }
}

/// A segment that holds nothing but records.
struct Mended {
    scan: Scan,
    len: usize,
    id: [u8; 8],
}

/// Takes out of a segment what holds no record.
fn mend(path: &Path, bytes: &[u8], scan: Scan) -> io::Result<Mended> {
    let mut id = [0; 8];
    id.copy_from_slice(&bytes[8..HEADER]);
    let mended = |scan, len, id| Ok(Mended { scan, len, id });
    let Some(damaged) = scan.damaged.first() else {
        return mended(scan, bytes.len(), id);
    };
    let end = damaged.start;
    if damaged.end == bytes.len() {
        // A torn tail, as a crash leaves it.
        let file = File::options().write(true).open(path)?;
        file.set_len(end as u64)?;
        file.sync_all()?;
        return mended(scan, end, id);
    }
    // Records move: positions of before mean nothing, and so it gets another id.
    id = files::random_id()?;
    let mut sound = bytes[..8].to_vec();
    sound.extend_from_slice(&id);
    for found in &scan.records {
        sound.extend_from_slice(&bytes[found.start..found.end]);
    }
    let other = path.with_extension("mended");
    files::write_durably(&other, &sound)?;
    std::fs::rename(&other, path)?;
    path.parent().map_or(Ok(()), files::sync_directory)?;
    mended(format::scan(&sound).unwrap_or_default(), sound.len(), id)
}
