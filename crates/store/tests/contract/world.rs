//! Clicks and postbacks to write, and the way a worker writes them.

use jiff::{SignedDuration, Timestamp};
use postern_core::currency::Currency;
use postern_core::decision::{
    Decided, Limits, PartitionState, PlacedClick, PlacedPostback, View, decide,
};
use postern_core::ids::{ClickId, RequestId};
use postern_core::money::Revenue;
use postern_core::record::click::Click;
use postern_core::record::postback::{Origin, Postback};
use postern_core::request::Fields;
use postern_store::{Advance, Batch, Lookup, Store, StoreError};

pub fn clickid(text: &str) -> ClickId {
    text.parse().unwrap()
}

/// The request id with a number.
pub fn request(number: u128) -> RequestId {
    RequestId::from_uuid(uuid::Uuid::from_u128(
        0x0193_9b1e_7c5a_7000_8000_0000_0000_0000 + number,
    ))
}

pub fn at(seconds: i64) -> Timestamp {
    "2025-11-26T14:32:10.123456Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

pub fn click(id: &str, campaign: i64) -> Click {
    Click::from_parts(
        clickid(id),
        campaign,
        ["site", "source", "publisher", "log"].map(str::to_owned),
        at(-60),
    )
}

pub fn postback(number: u128, id: &str, revenue: &str) -> Postback {
    let fields = Fields {
        clickid: clickid(id),
        revenue: Revenue::parse(revenue).unwrap(),
        revenue_raw: None,
        currency: Currency::USD,
        currency_sent: false,
        external_id: None,
        subids: Default::default(),
        event: None,
        status: None,
        signature: None,
        warnings: Vec::new(),
    };
    let seconds = i64::try_from(number % 10_000).unwrap();
    Postback::new(request(number), at(seconds), fields, origin())
}

pub fn with_txid(mut postback: Postback, txid: &str) -> Postback {
    postback.external_id = Some(txid.to_owned());
    postback
}

pub fn origin() -> Origin {
    Origin {
        method: "GET".to_owned(),
        raw_query: "clickid=x".to_owned(),
        raw_body: String::new(),
        address: "192.0.2.1".to_owned(),
        user_agent: String::new(),
    }
}

/// A row from which nothing was read yet.
pub fn start(partition: i32) -> PartitionState {
    PartitionState {
        partition,
        version: 0,
        clicks: 0,
        postbacks: 0,
        sequence: 0,
        published: 0,
        unmatched: 0,
    }
}

/// A worker of one partition, as the consumer is one: read, decide, commit.
pub struct Worker {
    pub state: PartitionState,
}

impl Worker {
    /// Creates the row where it isn't there.
    pub async fn new(store: &dyn Store, partition: i32) -> Self {
        let rows = store.create_partitions(&[start(partition)]).await.unwrap();
        Self { state: rows[0] }
    }

    pub async fn view(store: &dyn Store, clicks: &[Click], postbacks: &[Postback]) -> View {
        let arrived: Vec<_> = clicks.iter().map(|click| click.clickid.clone()).collect();
        let waiting: Vec<_> = postbacks.iter().map(|one| one.clickid.clone()).collect();
        let lookup = Lookup {
            request_ids: postbacks.iter().map(|one| one.request_id).collect(),
            clickids: arrived.iter().chain(&waiting).cloned().collect(),
            campaigns: clicks.iter().map(|click| click.campaign_id).collect(),
            // Those that this batch's clicks bring are in `unmatched`, whole.
            waiting: waiting
                .into_iter()
                .filter(|id| !arrived.contains(id))
                .collect(),
            arrived,
            ..Lookup::default()
        };
        store.load(&lookup).await.unwrap()
    }

    /// Decides without committing; gives the batch and where the row would stand.
    pub async fn prepare(
        &self,
        store: &dyn Store,
        clicks: &[Click],
        postbacks: &[Postback],
    ) -> (Batch, Decided) {
        let mut view = Self::view(store, clicks, postbacks).await;
        let mut next = self.state;
        let clicks = (self.state.clicks..)
            .zip(clicks)
            .map(|(offset, click)| PlacedClick {
                partition: self.state.partition,
                offset,
                click: click.clone(),
            })
            .collect();
        let postbacks = (self.state.postbacks..)
            .zip(postbacks)
            .map(|(offset, postback)| PlacedPostback {
                offset,
                postback: postback.clone(),
            })
            .collect();
        let decided = decide(&mut next, clicks, postbacks, &mut view, &Limits::default());
        let batch = Batch {
            advances: vec![Advance {
                expected: self.state,
                next,
            }],
            writes: decided.writes.clone(),
            slot: self.state.partition,
        };
        (batch, decided)
    }

    pub fn committed(&mut self, batch: &Batch) {
        self.state = batch.advances[0].next;
        self.state.version = batch.advances[0].expected.version + 1;
    }

    pub async fn try_batch(
        &mut self,
        store: &dyn Store,
        clicks: &[Click],
        postbacks: &[Postback],
    ) -> Result<Decided, StoreError> {
        let (batch, decided) = self.prepare(store, clicks, postbacks).await;
        store.commit(&batch).await?;
        self.committed(&batch);
        Ok(decided)
    }

    pub async fn batch(
        &mut self,
        store: &dyn Store,
        clicks: &[Click],
        postbacks: &[Postback],
    ) -> Decided {
        self.try_batch(store, clicks, postbacks).await.unwrap()
    }
}
