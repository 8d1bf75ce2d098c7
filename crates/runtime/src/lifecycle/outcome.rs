//! Why a process stopped and how its drain went.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A signal that asks the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// The exit code that shells expect of a process that this signal ended.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// The first reason to stop.
#[derive(Debug, Clone)]
pub enum Cause {
    Signal(Signal),
    /// Asked for by the program itself, with its reason.
    Requested(String),
    /// A task ended, without an error, before it was told to.
    Ended {
        task: String,
    },
    Failed {
        task: String,
        error: Arc<dyn Error + Send + Sync>,
    },
    Panicked {
        task: String,
        message: String,
    },
}

impl Cause {
    /// Whether the process should exit with a failure.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Signal(_) | Self::Requested(_))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "{signal}"),
            Self::Requested(reason) => f.write_str(reason),
            Self::Ended { task } => write!(f, "{task} ended by itself"),
            Self::Failed { task, error } => {
                write!(f, "{task} failed: {error}")?;
                let mut source = error.source();
                while let Some(cause) = source {
                    write!(f, ": {cause}")?;
                    source = cause.source();
                }
                Ok(())
            }
            Self::Panicked { task, message } => write!(f, "{task} panicked: {message}"),
        }
    }
}

/// How the process stopped.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub cause: Cause,
    /// How long the drain took.
    pub drained: Duration,
    /// Tasks that did not end in their stage's time.
    pub abandoned: Vec<String>,
    /// Tasks that failed after the cause, with their errors.
    pub failures: Vec<String>,
}

impl Outcome {
    /// Everything ended in time and without an error.
    pub fn is_clean(&self) -> bool {
        self.abandoned.is_empty() && self.failures.is_empty()
    }
}

/// The process stopped because one of its tasks did.
#[derive(Debug, thiserror::Error)]
#[error("{}", outcome.cause)]
pub struct LifecycleError {
    pub outcome: Outcome,
}
