//! Measures a store: `batches URL [SECONDS] [POSTBACKS PER BATCH]`.
//!
//! One worker of one partition. First clicks alone, then postbacks of those clicks: each batch is
//! loaded, decided and committed, as the consumer does it. The database must be empty; what is
//! written stays there.

#![allow(clippy::unwrap_used, reason = "a measurement that fails may end so")]
#![allow(clippy::print_stdout, reason = "the figures are the point")]

use jiff::Timestamp;
use postern_core::currency::Currency;
use postern_core::decision::{Limits, PartitionState, PlacedClick, PlacedPostback, View, decide};
use postern_core::ids::RequestId;
use postern_core::money::Revenue;
use postern_core::record::click::Click;
use postern_core::record::postback::{Origin, Postback};
use postern_core::request::Fields;
use postern_store::{Advance, Batch, Lookup, Store, StoreOptions, open};
use std::time::{Duration, Instant};

fn click(number: u128) -> Click {
    let labels = [
        format!("{}", number % 50),
        "popunder".to_owned(),
        "7".to_owned(),
        format!("{number}"),
    ];
    let campaign = i64::try_from(number % 100 + 1).unwrap();
    Click::from_parts(clickid(number), campaign, labels, Timestamp::now())
}

/// 32 hexadecimal digits, spread: new ones don't lie side by side.
fn clickid(number: u128) -> postern_core::ids::ClickId {
    let spread = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    format!("{spread:032x}").parse().unwrap()
}

fn postback(number: u128) -> Postback {
    let fields = Fields {
        clickid: clickid(number),
        revenue: Revenue::parse("1.23").unwrap(),
        revenue_raw: None,
        currency: Currency::USD,
        currency_sent: true,
        external_id: Some(format!("tx-{number}")),
        event: None,
        status: None,
        signature: None,
        subids: [
            Some("US".to_owned()),
            Some("GoogleAds".to_owned()),
            None,
            None,
            None,
        ],
        warnings: Vec::new(),
    };
    let origin = Origin {
        method: "GET".to_owned(),
        raw_query: format!(
            "clickid={}&revenue=1.23&currency=USD&txid=tx-{number}&subid0=US&subid1=GoogleAds",
            clickid(number)
        ),
        raw_body: String::new(),
        address: "192.0.2.1".to_owned(),
        user_agent: "tracker/1.0".to_owned(),
    };
    let id = RequestId::from_uuid(uuid::Uuid::now_v7());
    Postback::new(id, Timestamp::now(), fields, origin)
}

struct Spent {
    load: Duration,
    decide: Duration,
    commit: Duration,
}

async fn batch(
    store: &dyn Store,
    state: &mut PartitionState,
    clicks: Vec<Click>,
    postbacks: Vec<Postback>,
    spent: &mut Spent,
) {
    let lookup = Lookup {
        request_ids: postbacks.iter().map(|one| one.request_id).collect(),
        clickids: clicks
            .iter()
            .map(|click| &click.clickid)
            .chain(postbacks.iter().map(|one| &one.clickid))
            .cloned()
            .collect(),
        campaigns: clicks.iter().map(|click| click.campaign_id).collect(),
        arrived: Vec::new(),
        waiting: Vec::new(),
    };
    let begin = Instant::now();
    let mut view: View = store.load(&lookup).await.unwrap();
    spent.load += begin.elapsed();
    let begin = Instant::now();
    let expected = *state;
    let clicks = (expected.clicks..)
        .zip(clicks)
        .map(|(offset, click)| PlacedClick {
            partition: 0,
            offset,
            click,
        })
        .collect();
    let postbacks = (expected.postbacks..)
        .zip(postbacks)
        .map(|(offset, postback)| PlacedPostback { offset, postback })
        .collect();
    let decided = decide(state, clicks, postbacks, &mut view, &Limits::default());
    spent.decide += begin.elapsed();
    let begin = Instant::now();
    let batch = Batch {
        advances: vec![Advance {
            expected,
            next: *state,
        }],
        writes: decided.writes,
        slot: 0,
    };
    store.commit(&batch).await.unwrap();
    spent.commit += begin.elapsed();
    state.version += 1;
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap();
    let seconds: u64 = arguments.next().map_or(10, |text| text.parse().unwrap());
    let size: u128 = arguments.next().map_or(1_000, |text| text.parse().unwrap());
    let store = open(&url, StoreOptions::default()).unwrap();
    store.migrate().await.unwrap();
    let mut state = PartitionState {
        partition: 0,
        version: 0,
        clicks: 0,
        postbacks: 0,
        sequence: 0,
        published: 0,
        unmatched: 0,
    };
    state = store.create_partitions(&[state]).await.unwrap()[0];
    let mut known = 0;
    for what in ["clicks", "postbacks"] {
        let mut spent = Spent {
            load: Duration::ZERO,
            decide: Duration::ZERO,
            commit: Duration::ZERO,
        };
        let (mut done, begin) = (0_u128, Instant::now());
        let mut making = Duration::ZERO;
        while begin.elapsed() < Duration::from_secs(seconds) {
            let made = Instant::now();
            let (mut clicks, mut postbacks) = (Vec::new(), Vec::new());
            if what == "clicks" {
                clicks = (known..known + size).map(click).collect();
                known += size;
            } else if done + size > known {
                break;
            } else {
                postbacks = (done..done + size).map(postback).collect();
            }
            making += made.elapsed();
            batch(store.as_ref(), &mut state, clicks, postbacks, &mut spent).await;
            done += size;
        }
        let took = begin.elapsed() - making;
        let batches = u32::try_from(done / size).unwrap().max(1);
        println!(
            "{done} {what} in {took:.2?}: {} per second; per batch of {size}: load {:.2?}, decide \
             {:.2?}, commit {:.2?}",
            done * 1_000 / took.as_millis().max(1),
            spent.load / batches,
            spent.decide / batches,
            spent.commit / batches,
        );
    }
}
