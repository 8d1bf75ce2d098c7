//! Why a record could not be kept.

use std::path::PathBuf;

/// An error of the spool.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SpoolError {
    /// `spool.max_bytes` are taken.
    #[error("the spool is full: its segments take as much as spool.max_bytes allows")]
    Full,
    /// More waits to be written than may.
    #[error("the spool can't write as fast as it is asked to")]
    Busy,
    /// The record is longer than a segment takes.
    #[error("the record is too large for the spool: {0} bytes")]
    TooLarge(usize),
    /// The disk doesn't take it: full, read-only, gone.
    #[error("the spool can't be written: {0}")]
    Failed(String),
    /// Another process has the directory.
    #[error("{0} is in use by another process: each ingress needs a data_dir of its own")]
    InUse(PathBuf),
    /// The directory can't be used.
    #[error("{path} can't be used: {why}")]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

impl SpoolError {
    pub(crate) fn directory(path: impl Into<PathBuf>, why: &std::io::Error) -> Self {
        Self::Directory {
            path: path.into(),
            why: why.to_string(),
        }
    }
}
