//! What becomes of a record that was handed over, and who is told.

use super::{Outcome, Placed};
use crate::PublishError;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

#[derive(Debug, Default)]
struct Slot {
    /// Taken once.
    told: Option<(Outcome, Instant)>,
    waker: Option<Waker>,
    /// Whoever waits is woken by a failure only.
    quiet: bool,
}

type Shared = Arc<Mutex<Slot>>;

fn lock(slot: &Shared) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resolves when the record is acknowledged by all in-sync replicas, or given up. Dropping it
/// doesn't take the record back.
#[derive(Debug)]
pub struct Delivery(Shared);

/// Settles a [`Delivery`]; dropped, it says that the producer was closed.
#[derive(Debug)]
pub struct Settle(Option<Shared>);

impl Delivery {
    /// A delivery, and what settles it.
    #[must_use]
    pub fn channel() -> (Settle, Self) {
        let slot = Shared::default();
        (Settle(Some(slot.clone())), Self(slot))
    }

    /// What became of it, if that is known by now, and when it was. Told once.
    pub fn told(&mut self) -> Option<(Result<Placed, PublishError>, Instant)> {
        lock(&self.0).told.take()
    }

    /// Ends when it is known what became of it.
    pub async fn settled(&mut self) {
        self.until(false).await;
    }

    /// Ends when the record is given up, and never when it is acknowledged: whoever waits for
    /// something that comes after the acknowledgement is not woken by it. [`Self::told`] knows.
    pub async fn failed(&mut self) {
        self.until(true).await;
    }

    async fn until(&mut self, quiet: bool) {
        poll_fn(|cx| {
            let mut slot = lock(&self.0);
            match &slot.told {
                Some((outcome, _)) if outcome.is_err() || !quiet => return Poll::Ready(()),
                Some(_) => {}
                None => slot.wait(cx, quiet),
            }
            Poll::Pending
        })
        .await;
    }
}

impl Future for Delivery {
    type Output = Result<Placed, PublishError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = lock(&self.0);
        if let Some((outcome, _)) = slot.told.take() {
            return Poll::Ready(outcome);
        }
        slot.wait(cx, false);
        Poll::Pending
    }
}

impl Drop for Delivery {
    /// Nobody waits any more: a task that has gone on isn't woken, nor kept.
    fn drop(&mut self) {
        let waker = lock(&self.0).waker.take();
        drop(waker);
    }
}

impl Slot {
    fn wait(&mut self, cx: &Context<'_>, quiet: bool) {
        self.quiet = quiet;
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

impl Settle {
    /// Says what became of the record. Nobody may be interested any more.
    pub fn settle(mut self, outcome: Result<Placed, PublishError>) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome) {
        let Some(shared) = self.0.take() else { return };
        let mut slot = lock(&shared);
        let waker = slot.waker.take();
        let wakes = !slot.quiet || outcome.is_err();
        slot.told = Some((outcome, Instant::now()));
        drop(slot);
        if let Some(waker) = waker
            && wakes
        {
            waker.wake();
        }
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        let closed = PublishError::Undelivered("the producer was closed".into());
        self.tell(Err(closed));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    const PLACED: Placed = Placed {
        partition: 3,
        offset: 7,
    };

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn undelivered() -> PublishError {
        PublishError::Undelivered("away".to_owned())
    }

    /// Polls `future` once, then does something, then says whether it was woken and has ended.
    fn woken(future: impl Future, between: impl FnOnce()) -> (bool, bool) {
        let count = Arc::new(Woken::default());
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        assert!(future.as_mut().poll(&mut context).is_pending());
        between();
        let ended = future.as_mut().poll(&mut context).is_ready();
        (count.0.load(Ordering::Relaxed) > 0, ended)
    }

    #[test]
    fn an_acknowledgement_wakes_who_waits_for_it_and_not_who_waits_for_a_failure() {
        let (settle, mut delivery) = Delivery::channel();
        let settled = woken(delivery.settled(), || settle.settle(Ok(PLACED)));
        assert_eq!(settled, (true, true));
        assert_eq!(delivery.told().unwrap().0.unwrap(), PLACED);

        let (settle, mut delivery) = Delivery::channel();
        let before = Instant::now();
        let failed = woken(delivery.failed(), || settle.settle(Ok(PLACED)));
        assert_eq!(failed, (false, false));
        let (told, at) = delivery.told().unwrap();
        assert_eq!(told.unwrap(), PLACED);
        assert!(before <= at && at <= Instant::now());
        assert!(delivery.told().is_none(), "told once");
    }

    #[test]
    fn a_failure_wakes_everybody() {
        let (settle, mut delivery) = Delivery::channel();
        let failed = woken(delivery.failed(), || settle.settle(Err(undelivered())));
        assert_eq!(failed, (true, true));
        assert!(delivery.told().unwrap().0.is_err());

        let (settle, mut delivery) = Delivery::channel();
        // A producer that is closed tells nobody anything.
        assert_eq!(woken(delivery.failed(), || drop(settle)), (true, true));
        assert!(delivery.told().unwrap().0.is_err());

        let (settle, delivery) = Delivery::channel();
        assert_eq!(woken(delivery, || drop(settle)), (true, true));
    }

    #[test]
    fn who_has_gone_is_not_woken() {
        let (settle, mut delivery) = Delivery::channel();
        let count = Arc::new(Woken::default());
        let waker = Waker::from(count.clone());
        let waits = pin!(delivery.failed()).poll(&mut Context::from_waker(&waker));
        assert!(waits.is_pending());
        drop((delivery, waker));
        assert_eq!(Arc::strong_count(&count), 1, "the task is not kept");
        settle.settle(Err(undelivered()));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_waited_for_a_failure_alone_can_wait_for_all_afterwards() {
        let (settle, mut delivery) = Delivery::channel();
        assert_eq!(woken(delivery.failed(), || ()), (false, false));
        assert_eq!(woken(delivery, || settle.settle(Ok(PLACED))), (true, true));
    }
}
