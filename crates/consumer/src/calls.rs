//! A worker's futures run on its own thread: a call of the store then wakes no other one, which on
//! few cores costs as much as the call.

use std::future::Future;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

/// Runs futures on the thread that asks for it. Between two of them nothing runs: connections
/// that end meanwhile are noticed at the next.
pub(crate) struct Calls {
    runtime: Runtime,
}

impl Calls {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
        })
    }

    /// Runs a future to its end.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(async {
            // The first looks what has happened to connections, the second lets them know, so that
            // none is used that has ended.
            yield_now().await;
            yield_now().await;
            future.await
        })
    }

    /// Lets connections end that were given up.
    pub(crate) fn tend(&self) {
        self.run(yield_now());
    }
}
