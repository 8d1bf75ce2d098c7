//! The files of a spool, and what has to be fsynced with them.

use crate::SpoolError;
use crate::format::{HEADER, MAGIC};
use postern_failpoint::failpoint;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const EXTENSION: &str = ".log";
const POSITION: &str = "position";
const LOCK: &str = "lock";
const PROBE: &str = "probe";
pub(crate) const SET_ASIDE: &str = "set-aside";

/// The segment whose first record has this number.
pub(crate) fn segment(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}{EXTENSION}"))
}

/// The segments of a directory, by the numbers in their names, ascending.
pub(crate) fn segments(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(EXTENSION))
            .and_then(|stem| stem.parse().ok());
        if let Some(first) = number {
            found.push((first, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes a segment, with its header, and makes its name durable.
pub(crate) fn create(directory: &Path, first: u64) -> io::Result<(File, [u8; 8])> {
    let id = random_id()?;
    let path = segment(directory, first);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)?;
    let written = (|| {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..].copy_from_slice(&id);
        file.write_all_at(&header, 0)?;
        file.sync_all()?;
        sync_directory(directory)
    })();
    if let Err(error) = written {
        // A segment without its header would be set aside at the next start.
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok((file, id))
}

pub(crate) fn random_id() -> io::Result<[u8; 8]> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(id)
}

/// Makes names durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Writes a file whole, durably.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Keeps bytes of a segment for people to look at; gives where.
pub(crate) fn set_aside(
    directory: &Path,
    segment: u64,
    offset: u64,
    bytes: &[u8],
) -> io::Result<PathBuf> {
    let aside = directory.join(SET_ASIDE);
    std::fs::create_dir_all(&aside)?;
    let file = aside.join(format!("{segment:020}-{offset}.bin"));
    write_durably(&file, bytes)?;
    Ok(file)
}

/// Whether a small file can be written and fsynced.
pub(crate) fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(PROBE);
    let mut file = File::create(&path)?;
    file.write_all(&[0; 4096])?;
    failpoint!("spool.sync", |_| Err(io::Error::other("failpoint")));
    file.sync_all()?;
    std::fs::remove_file(path)
}

/// Takes the directory for this process, as long as the file is open.
pub(crate) fn lock(directory: &Path) -> Result<File, SpoolError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| SpoolError::directory(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(SpoolError::InUse(directory.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(SpoolError::directory(&path, &error)),
    }
}

/// How far records were released: the segment, by number and id, and the offset in it. It isn't
/// fsynced: one that is behind costs records that are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) id: [u8; 8],
    pub(crate) offset: u64,
}

impl Position {
    const LEN: usize = 28;

    pub(crate) fn load(directory: &Path) -> Option<Self> {
        let bytes = std::fs::read(directory.join(POSITION)).ok()?;
        let bytes: &[u8; Self::LEN] = bytes.first_chunk()?;
        let (body, crc) = bytes.split_at(Self::LEN - 4);
        (crc32fast::hash(body).to_le_bytes() == crc).then_some(())?;
        Some(Self {
            segment: u64::from_le_bytes(*body.first_chunk()?),
            id: *body.get(8..)?.first_chunk()?,
            offset: u64::from_le_bytes(*body.get(16..)?.first_chunk()?),
        })
    }

    /// The file that positions are written to.
    pub(crate) fn file(directory: &Path) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(POSITION))
    }

    pub(crate) fn save(self, file: &File) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(Self::LEN);
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        file.write_all_at(&bytes, 0)
    }
}
