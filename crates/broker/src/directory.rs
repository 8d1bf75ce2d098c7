//! The data directory: held by one process at a time, and named to the broker
//! in the URL form that it takes.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use url::Url;

use crate::BrokerError;

/// The log, one SQLite file with its write-ahead log beside it.
const DATABASE: &str = "broker.db";

/// Locked while a broker runs; its content means nothing.
const LOCK: &str = "broker.lock";

/// A data directory that this process holds; free again when dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Keeps `/proc/self/fd/N` valid; see [`Directory::storage_url`].
    #[cfg(target_os = "linux")]
    handle: File,
    _lock: File,
}

impl Directory {
    pub(crate) fn open(dir: &Path) -> Result<Self, BrokerError> {
        let failed = |source: std::io::Error| BrokerError::Directory {
            path: dir.to_owned(),
            source: source.into(),
        };
        fs::create_dir_all(dir).map_err(failed)?;
        let path = dir.canonicalize().map_err(failed)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(failed)?;
        // The system gives the lock back when the process dies, however it dies.
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BrokerError::DirectoryInUse { path }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Self {
            #[cfg(target_os = "linux")]
            handle: File::open(&path).map_err(failed)?,
            path,
            _lock: lock,
        })
    }

    /// The broker takes the path of its file from a URL without decoding it,
    /// and joins it to the working directory after removing one slash. So an
    /// absolute path needs one slash more, and a path that a URL would encode
    /// goes in by the number of its open directory.
    pub(crate) fn storage_url(&self) -> Result<Url, BrokerError> {
        if let Some(url) = self.path.to_str().and_then(plain_url) {
            return Ok(url);
        }
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            let by_number = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
            if let Some(url) = plain_url(&by_number) {
                return Ok(url);
            }
        }
        Err(BrokerError::Directory {
            path: self.path.clone(),
            source: std::io::Error::other("its name has characters that the broker can't take")
                .into(),
        })
    }
}

fn plain_url(dir: &str) -> Option<Url> {
    let path = format!("/{dir}/{DATABASE}");
    let url = Url::parse(&format!("sqlite://{path}")).ok()?;
    (url.path() == path && url.query().is_none() && url.fragment().is_none()).then_some(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn the_path_comes_out_of_the_url_as_it_went_in() {
        assert_eq!(
            plain_url("/var/lib/postern").unwrap().as_str(),
            "sqlite:////var/lib/postern/broker.db"
        );
        for encoded in ["/a b", "/a?b", "/a#b", "/ä", "/a%20b/../c"] {
            assert!(plain_url(encoded).is_none(), "{encoded}");
        }
    }

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::open(dir.path()).unwrap();
        let second = Directory::open(dir.path());
        assert!(matches!(second, Err(BrokerError::DirectoryInUse { .. })));
        drop(first);
        Directory::open(dir.path()).unwrap();
    }
}
