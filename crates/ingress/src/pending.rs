//! Requests that wait for their verdict.
//!
//! Bounded by the ingress' in-flight limit: an entry exists only while its request is being
//! answered, and goes when the request is answered or its caller has gone.

use postern_core::ids::RequestId;
use postern_core::record::verdict::{Outcome, Verdict};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Requests are spread over this many locks, so that threads seldom meet.
const SHARDS: usize = 16;

type Shard = Mutex<HashMap<RequestId, Entry>>;

/// Who waits, and the number of its [`Waiting`]: a spooled postback may be waited for anew while
/// the first one who did is about to leave.
#[derive(Debug)]
struct Entry {
    number: u64,
    sender: oneshot::Sender<Outcome>,
}

/// The register of waiting requests. Clones share it.
#[derive(Clone, Debug)]
pub struct Pending {
    shards: Arc<[Shard; SHARDS]>,
    numbers: Arc<AtomicU64>,
    instance: Arc<str>,
}

impl Pending {
    /// An empty register of the ingress `instance`.
    #[must_use]
    pub fn new(instance: &str) -> Self {
        Self {
            shards: Arc::new(std::array::from_fn(|_| Mutex::default())),
            numbers: Arc::default(),
            instance: instance.into(),
        }
    }

    /// The ingress instance whose requests wait here.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Begins to wait. To be called before the postback is published: its verdict may be
    /// faster than the acknowledgement.
    pub(crate) fn register(&self, request_id: RequestId) -> Waiting<'_> {
        let (sender, receiver) = oneshot::channel();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.shard(request_id)
            .insert(request_id, Entry { number, sender });
        Waiting {
            pending: self,
            request_id,
            number,
            receiver,
        }
    }

    /// Hands verdicts to those who wait; gives how many nobody waited for any more.
    pub fn resolve(&self, verdicts: Vec<Verdict>) -> usize {
        let mut late = 0;
        for verdict in verdicts {
            let entry = self.shard(verdict.request_id).remove(&verdict.request_id);
            if entry.is_none_or(|entry| entry.sender.send(verdict.outcome).is_err()) {
                late += 1;
            }
        }
        late
    }

    /// How many requests wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, request_id: RequestId) -> MutexGuard<'_, HashMap<RequestId, Entry>> {
        // The last byte of a UUIDv7 is random.
        let index = usize::from(request_id.as_uuid().as_bytes()[15]) % SHARDS;
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's place in the register; leaves it when dropped.
pub(crate) struct Waiting<'a> {
    pending: &'a Pending,
    request_id: RequestId,
    number: u64,
    receiver: oneshot::Receiver<Outcome>,
}

impl Waiting<'_> {
    /// The verdict. Never ends before one comes: whoever waits sets the deadline. Can be dropped
    /// and called again.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        match (&mut self.receiver).await {
            Ok(outcome) => outcome,
            // The sender goes only with a verdict or with this entry.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut shard = self.pending.shard(self.request_id);
        if shard.get(&self.request_id).map(|entry| entry.number) == Some(self.number) {
            shard.remove(&self.request_id);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn verdict(request_id: RequestId) -> Verdict {
        Verdict {
            request_id,
            outcome: Outcome::ClickNotFound,
        }
    }

    #[tokio::test]
    async fn a_verdict_reaches_its_request_and_no_other() {
        let pending = Pending::new("one");
        let id = RequestId::from_uuid(uuid::Uuid::now_v7());
        let other = RequestId::from_uuid(uuid::Uuid::now_v7());
        let mut waiting = pending.register(id);
        assert_eq!(pending.resolve(vec![verdict(other), verdict(id)]), 1);
        assert_eq!(waiting.outcome().await, Outcome::ClickNotFound);
        assert!(pending.is_empty());
    }

    #[tokio::test]
    async fn who_goes_leaves_nothing_behind() {
        let pending = Pending::new("one");
        let id = RequestId::from_uuid(uuid::Uuid::now_v7());
        drop(pending.register(id));
        assert!(pending.is_empty());
        assert_eq!(pending.resolve(vec![verdict(id)]), 1);
    }

    #[tokio::test]
    async fn who_goes_takes_nobody_along_who_waits_for_the_same() {
        let pending = Pending::new("one");
        let id = RequestId::from_uuid(uuid::Uuid::now_v7());
        let first = pending.register(id);
        let mut second = pending.register(id);
        drop(first);
        assert_eq!(pending.resolve(vec![verdict(id)]), 0);
        assert_eq!(second.outcome().await, Outcome::ClickNotFound);
        assert!(pending.is_empty());
    }
}
