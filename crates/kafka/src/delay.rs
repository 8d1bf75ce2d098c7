//! Tests only: records that reach the consumer later than they were fetched.

use crate::Record;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// `FAILPOINTS="kafka.fetched.TOPIC=return(300)"` holds each record of TOPIC back for 300 ms.
#[derive(Default)]
pub(crate) struct Delay {
    held: RefCell<VecDeque<(Instant, Record)>>,
}

impl Delay {
    /// Takes a fetched record; gives it back where its topic isn't delayed.
    pub(crate) fn take(&self, record: Record) -> Option<Record> {
        let told = postern_failpoint::quietly(&format!("kafka.fetched.{}", record.topic));
        let Some(delay) = told.and_then(|millis| millis.parse().ok()) else {
            return Some(record);
        };
        let due = Instant::now() + Duration::from_millis(delay);
        self.held.borrow_mut().push_back((due, record));
        None
    }

    /// The first record that was held back long enough.
    pub(crate) fn due(&self) -> Option<Record> {
        let mut held = self.held.borrow_mut();
        let (due, _) = held.front()?;
        if *due > Instant::now() {
            return None;
        }
        held.pop_front().map(|(_, record)| record)
    }

    /// No longer than until the next one is due.
    pub(crate) fn cap(&self, timeout: Duration) -> Duration {
        self.held.borrow().front().map_or(timeout, |(due, _)| {
            timeout.min(due.saturating_duration_since(Instant::now()))
        })
    }

    /// Forgets what is held: it will be fetched again.
    pub(crate) fn clear(&self) {
        self.held.borrow_mut().clear();
    }
}
