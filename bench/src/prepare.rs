//! Before the load: every click is published, and the consumer has read them.

use crate::Plan;
use crate::answer::{Expected, Kind, judge};
use crate::client::Client;
use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// The campaign of all clicks.
pub const CAMPAIGN: i64 = 18;
/// Clicks in one request.
const CHUNK: u64 = 1_000;
/// Clicks after those of the load: enough of them to meet every partition.
const PROBES: u64 = 64;
/// How long all clicks may take to publish, and how long to be read.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at a probe.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Accepted {
    accepted: u64,
}

/// Publishes the clicks of all postbacks, and the probes' after them.
pub async fn clicks(plan: &Plan) -> anyhow::Result<()> {
    timeout_at(Instant::now() + PATIENCE, publish(plan))
        .await
        .context("publishing the clicks took too long")?
}

async fn publish(plan: &Plan) -> anyhow::Result<()> {
    let mut client = Client::new(plan.targets[0].clone());
    let end = plan.total + PROBES;
    let mut next = 0;
    while next < end {
        let upto = (next + CHUNK).min(end);
        let mut body = String::new();
        for number in next..upto {
            writeln!(
                body,
                r#"{{"v":1,"clickid":"{}","campaign_id":{CAMPAIGN},"site_id":"{}","source":"bench"}}"#,
                plan.clickid(number),
                number % 20
            )?;
        }
        let response = client
            .post("/v1/clicks", &plan.token, &body)
            .await
            .context("publishing clicks")?;
        let told = String::from_utf8_lossy(&response.body);
        ensure!(response.status == 200, "{} {told}", response.status);
        let accepted: Accepted = serde_json::from_str(&told).context("no count of clicks")?;
        ensure!(accepted.accepted == upto - next, "clicks refused: {told}");
        next = upto;
    }
    Ok(())
}

/// Waits until the probes convert: the clicks before them are read then.
pub async fn settle(plan: &Plan) -> anyhow::Result<()> {
    let mut client = Client::new(plan.targets[0].clone());
    let end = Instant::now() + PATIENCE;
    for number in plan.total..plan.total + PROBES {
        loop {
            let (clickid, revenue) = (plan.clickid(number), Plan::revenue(number));
            let path = format!("/v1/postback.php?clickid={clickid}&revenue={revenue}");
            let response = client.get(&path).await.context("a probe")?;
            let expected = Expected {
                clickid: &clickid,
                campaign_id: CAMPAIGN,
                revenue: &revenue,
            };
            match judge(&response, &expected) {
                (Kind::Standard | Kind::Duplicate, _) => break,
                (Kind::Queued | Kind::Error, why) => ensure!(
                    Instant::now() < end,
                    "the last clicks do not convert within {} s: {why}",
                    PATIENCE.as_secs()
                ),
                (Kind::NotFound | Kind::Wrong, why) => bail!("a probe got a wrong answer: {why}"),
            }
            sleep(PAUSE).await;
        }
    }
    Ok(())
}
