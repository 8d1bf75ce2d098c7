//! When records aren't handed to Kafka any more, but go straight to the spool.
//!
//! Per partition, so that a broker that is away doesn't hold up what others take; and for all of
//! them, where none acknowledges. Opens after a few records in a row that weren't acknowledged in
//! time, closes with the first one that is.
//!
//! Who finds out, where all are open, is the drain, or the watch with a record that nobody waits
//! for; without a spool one caller now and then is. Where one partition is open, the drain may be
//! stuck before another: one caller now and then tries it.

use crate::spooled::Topic;
use prometheus::IntGauge;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Records in a row that were not acknowledged.
const OPEN_AFTER: u32 = 5;
/// Between two callers who try.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The partition that a key belongs to.
pub(crate) type Place = (Topic, i32);

#[derive(Debug)]
struct State {
    missed: u32,
    opened: Instant,
    tried: Instant,
}

impl State {
    fn new() -> Self {
        Self {
            missed: 0,
            opened: Instant::now(),
            tried: Instant::now(),
        }
    }

    fn is_open(&self) -> bool {
        self.missed >= OPEN_AFTER
    }

    fn admits(&mut self, try_it: bool) -> bool {
        if !self.is_open() {
            return true;
        }
        let due = try_it && self.tried.elapsed() >= TRY_EVERY;
        if due {
            self.tried = Instant::now();
        }
        due
    }

    /// Gives whether it opens.
    fn miss(&mut self) -> bool {
        self.missed = self.missed.saturating_add(1);
        let opens = self.missed == OPEN_AFTER;
        if opens {
            self.opened = Instant::now();
            self.tried = self.opened;
        }
        opens
    }
}

#[derive(Debug)]
struct States {
    /// One per partition whose last record was missed.
    places: HashMap<Place, State>,
    all: State,
}

/// The breaker. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct PublishBreaker {
    states: Arc<Mutex<States>>,
    open: IntGauge,
}

impl PublishBreaker {
    /// A closed breaker; `open` counts the partitions that are open, and one more for all.
    pub(crate) fn new(open: IntGauge) -> Self {
        let states = States {
            places: HashMap::new(),
            all: State::new(),
        };
        Self {
            states: Arc::new(Mutex::new(states)),
            open,
        }
    }

    /// Whether to hand a record to Kafka. `drained`: the drain finds out whether Kafka
    /// acknowledges again.
    pub(crate) fn admits(&self, place: Place, drained: bool) -> bool {
        let mut states = self.lock();
        if states.all.is_open() {
            return states.all.admits(!drained);
        }
        match states.places.get_mut(&place) {
            Some(state) => state.admits(true),
            None => true,
        }
    }

    /// Nothing was missed there, nor anywhere, since the last acknowledgement.
    pub(crate) fn trusts(&self, place: Place) -> bool {
        let states = self.lock();
        states.all.missed == 0 && !states.places.contains_key(&place)
    }

    /// Kafka acknowledged something at that time, of whatever partition.
    pub(crate) fn heard(&self, at: Instant) {
        let mut states = self.lock();
        if states.all.is_open() && at > states.all.opened {
            self.close_all(&mut states);
        }
    }

    fn close_all(&self, states: &mut States) {
        states.all.missed = 0;
        self.open.dec();
        tracing::info!("kafka acknowledges again");
    }

    /// A record was acknowledged.
    pub(crate) fn acknowledged(&self, place: Place) {
        let mut states = self.lock();
        if states.all.is_open() {
            self.close_all(&mut states);
        }
        states.all.missed = 0;
        if states
            .places
            .remove(&place)
            .is_some_and(|state| state.is_open())
        {
            self.open.dec();
            let (topic, partition) = (place.0.name(), place.1);
            tracing::info!(topic, partition, "the partition acknowledges again");
        }
    }

    /// A record was not acknowledged in time.
    pub(crate) fn missed(&self, place: Place) {
        let mut states = self.lock();
        let known = states.places.get(&place).is_some_and(State::is_open);
        // One that is tried again and again says nothing new of the others.
        if !known && states.all.miss() {
            self.open.inc();
            tracing::warn!(
                "kafka doesn't acknowledge: records go to the spool; see whether the brokers run \
                 and can be reached"
            );
        }
        if states.places.entry(place).or_insert_with(State::new).miss() {
            self.open.inc();
            let (topic, partition) = (place.0.name(), place.1);
            tracing::warn!(
                topic,
                partition,
                "a partition doesn't acknowledge: its records go to the spool; see whether it has \
                 a leader and its in-sync replicas"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const HERE: Place = (Topic::Postbacks, 3);
    const THERE: Place = (Topic::Postbacks, 4);

    fn breaker() -> PublishBreaker {
        PublishBreaker::new(IntGauge::new("open", "open").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn opens_by_partition_is_tried_and_closes_with_an_acknowledgement() {
        let breaker = breaker();
        assert!(breaker.trusts(HERE));
        for _ in 1..OPEN_AFTER {
            breaker.missed(HERE);
        }
        assert!(breaker.admits(HERE, true) && !breaker.trusts(HERE));
        breaker.acknowledged(HERE);
        assert!(breaker.trusts(HERE));
        for _ in 0..OPEN_AFTER {
            assert!(breaker.admits(HERE, true));
            breaker.missed(HERE);
            breaker.acknowledged(THERE);
        }
        assert_eq!(breaker.open.get(), 1);
        assert!(!breaker.admits(HERE, true), "not yet");
        assert!(breaker.admits(THERE, true));
        tokio::time::advance(TRY_EVERY).await;
        // The drain may be stuck before another partition.
        assert!(breaker.admits(HERE, true));
        assert!(!breaker.admits(HERE, true), "one at a time");
        breaker.missed(HERE);
        breaker.acknowledged(HERE);
        assert_eq!(breaker.open.get(), 0);
        assert!(breaker.admits(HERE, true));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_acknowledged_it_opens_for_all() {
        let breaker = breaker();
        for partition in 0..5 {
            assert!(breaker.admits(THERE, true));
            breaker.missed((Topic::Clicks, partition));
        }
        assert!(!breaker.admits(HERE, true) && !breaker.admits(THERE, false));
        tokio::time::advance(TRY_EVERY).await;
        assert!(!breaker.admits(HERE, true), "the drain tries");
        assert!(breaker.admits(HERE, false));
        assert!(!breaker.admits(THERE, false), "one of all");
        breaker.acknowledged(HERE);
        assert_eq!(breaker.open.get(), 0);
        assert!(breaker.admits(THERE, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_that_stays_away_does_not_hold_up_the_others() {
        let breaker = breaker();
        let before = Instant::now();
        tokio::time::advance(TRY_EVERY).await;
        for _ in 0..OPEN_AFTER {
            breaker.missed(HERE);
        }
        assert_eq!(breaker.open.get(), 2, "it, and all: nothing else was heard");
        breaker.heard(before);
        assert!(!breaker.admits(THERE, true), "heard too long ago");
        tokio::time::advance(TRY_EVERY).await;
        breaker.heard(Instant::now());
        assert_eq!(breaker.open.get(), 1);
        // The drain goes on trying it.
        for _ in 0..3 * OPEN_AFTER {
            breaker.missed(HERE);
        }
        assert!(breaker.admits(THERE, true));
        assert_eq!(breaker.open.get(), 1);
    }
}
