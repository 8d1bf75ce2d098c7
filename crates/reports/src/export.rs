//! A list as a stream: page after page, each read when the one before it has left. No more than
//! a page is held, and between two pages no connection to the store.
//!
//! Each row that was there at the beginning comes exactly once: a row's place in the list never
//! changes.

use crate::lists::Listing;
use crate::table::{Format, write_csv, write_header, write_json};
use bytes::Bytes;
use postern_core::cursor::Place;
use postern_runtime::http::{BodyFailure, Chunks, NextChunk};
use postern_runtime::telemetry::chain;
use postern_store::{Store, StoreError};
use prometheus::IntGauge;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// A stream that has begun.
pub(crate) struct Export {
    store: Arc<dyn Store>,
    listing: Listing,
    /// Read, and not sent yet.
    ready: Vec<u8>,
    /// Where it goes on; `None` at the end.
    after: Option<Place>,
    /// Rows that may still be sent.
    left: Option<i64>,
    _running: Running,
}

/// The place that an export takes among those that may run.
pub(crate) struct Running {
    open: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Running {
    pub(crate) fn new(open: IntGauge, permit: OwnedSemaphorePermit) -> Self {
        open.inc();
        Self {
            open,
            _permit: permit,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Export {
    /// Reads the first page, so that what is wrong can still be answered.
    pub(crate) async fn begin(
        store: Arc<dyn Store>,
        listing: Listing,
        running: Running,
    ) -> Result<Self, StoreError> {
        let mut export = Self {
            store,
            ready: Vec::new(),
            after: listing.after,
            left: listing.limit,
            listing,
            _running: running,
        };
        if export.listing.format == Format::Csv {
            write_header(&export.listing.names(), &mut export.ready);
        }
        export.read().await?;
        Ok(export)
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let rows = self.listing.list.rows_at_once();
        let limit = self.left.map_or(rows, |left| left.min(rows));
        let page = self.listing.page(self.store.as_ref(), self.after, limit);
        let (rows, last) = page.await?;
        for row in &rows {
            if self.listing.format == Format::Csv {
                write_csv(row, &mut self.ready);
            } else {
                write_json(row, &mut self.ready);
                self.ready.push(b'\n');
            }
        }
        self.left = self.left.map(|left| left - limit);
        self.after = last.filter(|_| self.left != Some(0));
        Ok(())
    }
}

impl Chunks for Export {
    fn next(mut self: Box<Self>) -> NextChunk {
        Box::pin(async move {
            if self.ready.is_empty() && self.after.is_some() {
                let read = self.read().await;
                read.map_err(|error| {
                    tracing::error!(why = chain(&error), "an export broke off");
                    Box::new(error) as BodyFailure
                })?;
            }
            if self.ready.is_empty() {
                return Ok(None);
            }
            let bytes = Bytes::from(std::mem::take(&mut self.ready));
            Ok(Some((bytes, self as Box<dyn Chunks>)))
        })
    }
}
