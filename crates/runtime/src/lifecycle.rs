//! Starting and stopping: every long-lived task is registered by name and
//! stage, the first reason to stop is kept, and stages stop in order.
//!
//! The stages are [`Stage::Edge`] (what accepts work), then [`Stage::Workers`]
//! (what does it), then [`Stage::Base`] (what both stand on). A stage is told
//! to stop when everything in the one before has ended or its time is up. A
//! task that ends while its stage has not been told to stop, in whatever way,
//! is a reason to stop the process: a role without one of its parts would
//! promise what it can't keep.
//!
//! There is no static state; a process may hold several lifecycles, as tests do.

mod outcome;
mod signals;

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use outcome::{Cause, LifecycleError, Outcome, Signal};

use crate::panics::{caught, caught_blocking};

/// What a registered task ends with.
pub type TaskResult = Result<(), Box<dyn Error + Send + Sync>>;

/// When a task is told to stop; in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Accepts work from outside: HTTP servers.
    Edge,
    /// Does the work: consumers, producers, verdict readers.
    Workers,
    /// What the others stand on: the embedded broker, the admin server.
    Base,
}

impl Stage {
    pub const ALL: [Self; 3] = [Self::Edge, Self::Workers, Self::Base];

    fn index(self) -> usize {
        match self {
            Self::Edge => 0,
            Self::Workers => 1,
            Self::Base => 2,
        }
    }
}

/// The register of a process's tasks; clones share it.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    stages: [CancellationToken; 3],
    /// Cancelled with the first cause.
    stopping: CancellationToken,
    state: Mutex<State>,
    /// A task has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<Running>,
    next_id: u64,
    cause: Option<Cause>,
    /// Tasks that failed after the cause, while the process was stopping.
    failures: Vec<String>,
}

#[derive(Debug)]
struct Running {
    id: u64,
    stage: Stage,
    name: String,
    /// None for threads, which can't be stopped from outside.
    abort: Option<AbortHandle>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A lifecycle that hears no signals.
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                stages: std::array::from_fn(|_| CancellationToken::new()),
                stopping: CancellationToken::new(),
                state: Mutex::default(),
                ended: Notify::new(),
            }),
        }
    }

    /// A lifecycle that stops at the first SIGTERM or SIGINT; the second ends
    /// the process at once, with 128 + the signal's number. Call it once, early.
    ///
    /// # Errors
    ///
    /// The signal handlers could not be installed.
    pub fn with_signals() -> std::io::Result<Self> {
        let lifecycle = Self::new();
        signals::watch(lifecycle.clone())?;
        Ok(lifecycle)
    }

    /// Cancelled as soon as the process begins to stop, whatever the stage.
    /// For waits that should not outlast that, such as connecting at start.
    pub fn stopping(&self) -> CancellationToken {
        self.inner.stopping.clone()
    }

    /// Cancelled when this stage is told to stop.
    pub fn token(&self, stage: Stage) -> CancellationToken {
        self.inner.stages[stage.index()].child_token()
    }

    /// Begins to stop for a reason of the program's own, such as a command
    /// that is done. Later calls change nothing.
    pub fn stop(&self, reason: &str) {
        self.begin(Cause::Requested(reason.to_owned()));
    }

    /// Runs a task under this lifecycle. It gets its stage's token and must
    /// end soon after that is cancelled; it is aborted at its stage's deadline.
    pub fn spawn<F, Fut>(&self, stage: Stage, name: &str, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = TaskResult> + Send + 'static,
    {
        let future = task(self.token(stage));
        let registered = Registered::new(self, stage, name);
        let id = registered.id;
        let handle = tokio::spawn(async move {
            let end = caught(pin!(future)).await;
            registered.finish(end);
        });
        let mut state = self.state();
        if let Some(running) = state.running.iter_mut().find(|r| r.id == id) {
            running.abort = Some(handle.abort_handle());
        }
    }

    /// As [`Lifecycle::spawn`], on a thread of its own, for work that blocks.
    /// A thread can't be aborted: past its stage's deadline it is left behind.
    ///
    /// # Errors
    ///
    /// The system gave no thread.
    pub fn spawn_thread<F>(&self, stage: Stage, name: &str, work: F) -> std::io::Result<()>
    where
        F: FnOnce(CancellationToken) -> TaskResult + Send + 'static,
    {
        let token = self.token(stage);
        let registered = Registered::new(self, stage, name);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let end = caught_blocking(|| work(token));
                registered.finish(end);
            })
            .map(drop)
    }

    /// Registers something that runs elsewhere, such as a thread of a library.
    /// Dropping the guard without a word counts as a failure.
    pub fn register(&self, stage: Stage, name: &str) -> oneshot::Sender<TaskResult> {
        let (sender, receiver) = oneshot::channel();
        self.spawn(stage, name, |_| async move {
            receiver
                .await
                .unwrap_or_else(|_| Err("ended without a result".into()))
        });
        sender
    }

    /// Waits for the first cause, then stops the stages in order. The drain
    /// takes at most `deadline`: a stage may use half of what is left, the last
    /// one all of it, so that a stuck stage leaves time for those below it.
    ///
    /// # Errors
    ///
    /// [`LifecycleError`] when the cause was a task that ended, failed or
    /// panicked; the drain was done all the same.
    pub async fn run_until_done(&self, deadline: Duration) -> Result<Outcome, LifecycleError> {
        self.inner.stopping.cancelled().await;
        let started = Instant::now();
        let end = started + deadline;
        let mut abandoned = Vec::new();
        for stage in Stage::ALL {
            let now = Instant::now();
            let left = end.saturating_duration_since(now);
            let share = if stage == Stage::Base { left } else { left / 2 };
            self.inner.stages[stage.index()].cancel();
            if timeout_at(now + share, self.stage_ended(stage))
                .await
                .is_err()
            {
                abandoned.extend(self.abandon(stage));
            }
        }
        let (cause, failures) = {
            let mut state = self.state();
            let cause = state.cause.take();
            (cause, std::mem::take(&mut state.failures))
        };
        let cause = cause.unwrap_or_else(|| Cause::Requested("stopped".to_owned()));
        let outcome = Outcome {
            cause,
            drained: started.elapsed(),
            abandoned,
            failures,
        };
        if outcome.is_clean() {
            info!(cause = %outcome.cause, drain = ?outcome.drained, "stopped, everything drained");
        } else {
            warn!(
                cause = %outcome.cause,
                drain = ?outcome.drained,
                abandoned = ?outcome.abandoned,
                failures = ?outcome.failures,
                "stopped, not everything drained"
            );
        }
        if outcome.cause.is_failure() {
            Err(LifecycleError { outcome })
        } else {
            Ok(outcome)
        }
    }

    fn begin(&self, cause: Cause) {
        let mut state = self.state();
        if state.cause.is_none() && !self.inner.stopping.is_cancelled() {
            if cause.is_failure() {
                error!(%cause, "stopping");
            } else {
                info!(%cause, "stopping");
            }
            state.cause = Some(cause);
            self.inner.stopping.cancel();
        }
    }

    async fn stage_ended(&self, stage: Stage) {
        loop {
            // Created before the look, so that an end in between is not missed.
            let ended = self.inner.ended.notified();
            if !self.state().running.iter().any(|r| r.stage == stage) {
                return;
            }
            ended.await;
        }
    }

    fn abandon(&self, stage: Stage) -> Vec<String> {
        let mut names = Vec::new();
        for running in &self.state().running {
            if running.stage == stage {
                warn!(task = running.name, ?stage, "did not stop in time");
                if let Some(abort) = &running.abort {
                    abort.abort();
                }
                names.push(running.name.clone());
            }
        }
        names
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; the data is whole in any case.
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One entry of the register; it leaves when the task ends in any way.
struct Registered {
    lifecycle: Lifecycle,
    stage: Stage,
    id: u64,
    name: String,
}

impl Registered {
    fn new(lifecycle: &Lifecycle, stage: Stage, name: &str) -> Self {
        let mut state = lifecycle.state();
        let id = state.next_id;
        state.next_id += 1;
        state.running.push(Running {
            id,
            stage,
            name: name.to_owned(),
            abort: None,
        });
        drop(state);
        Self {
            lifecycle: lifecycle.clone(),
            stage,
            id,
            name: name.to_owned(),
        }
    }

    fn finish(self, end: Result<TaskResult, String>) {
        let cause = match end {
            Ok(Ok(())) => Cause::Ended {
                task: self.name.clone(),
            },
            Ok(Err(error)) => Cause::Failed {
                task: self.name.clone(),
                error: Arc::from(error),
            },
            Err(message) => Cause::Panicked {
                task: self.name.clone(),
                message,
            },
        };
        let told = self.lifecycle.inner.stages[self.stage.index()].is_cancelled();
        let unexpected = !(told && matches!(cause, Cause::Ended { .. }));
        if !unexpected {
            return;
        }
        if self.lifecycle.inner.stopping.is_cancelled() {
            error!(%cause, "task ended badly while stopping");
            self.lifecycle.state().failures.push(cause.to_string());
        } else {
            self.lifecycle.begin(cause);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.lifecycle.state().running.retain(|r| r.id != self.id);
        self.lifecycle.inner.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
