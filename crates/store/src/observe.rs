//! What a store tells of each call, for metrics.

use crate::StoreError;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A call that has ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// `work`, or `reading` for what people ask.
    pub purpose: &'static str,
    /// With the wait for a connection.
    pub took: Duration,
    /// What kind of error it was.
    pub error: Option<&'static str>,
    /// Connections, where there is a pool.
    pub pool: Option<PoolState>,
}

/// A pool of connections.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolState {
    /// In use.
    pub used: usize,
    /// Open, and free.
    pub idle: usize,
    /// Calls that wait for one.
    pub waiting: usize,
}

/// Hears of calls.
pub type Observer = Arc<dyn Fn(&Observation) + Send + Sync>;

/// Tells the observer of one kind of calls.
#[derive(Clone)]
pub(crate) struct Observed {
    pub(crate) purpose: &'static str,
    pub(crate) observer: Option<Observer>,
}

impl Observed {
    pub(crate) async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
        pool: impl FnOnce() -> Option<PoolState>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let result = call.await;
        if let Some(observer) = &self.observer {
            observer(&Observation {
                purpose: self.purpose,
                took: began.elapsed(),
                error: result.as_ref().err().map(StoreError::kind),
                pool: pool(),
            });
        }
        result
    }
}
