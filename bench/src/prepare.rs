//! Before a load: clicks are published through an ingress, and the consumer has read them.

use crate::answer::{Kind, judge};
use crate::client::Client;
use crate::set::{Aim, Set};
use crate::target::Target;
use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Clicks in one request.
const CHUNK: u64 = 1_000;
/// Clicks after those of the load: enough of them to meet every partition.
const PROBES: u64 = 64;
/// How long all clicks may take to publish, and how long to be read.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at a probe.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Accepted {
    accepted: u64,
}

/// Publishes clicks.
pub async fn publish(
    target: &Target,
    token: &str,
    set: Set,
    numbers: Range<u64>,
) -> anyhow::Result<()> {
    timeout_at(Instant::now() + PATIENCE, post(target, token, set, numbers))
        .await
        .context("publishing the clicks took too long")?
}

async fn post(target: &Target, token: &str, set: Set, numbers: Range<u64>) -> anyhow::Result<()> {
    let mut client = Client::new(target.clone());
    let mut next = numbers.start;
    while next < numbers.end {
        let upto = (next + CHUNK).min(numbers.end);
        let mut body = String::new();
        for number in next..upto {
            writeln!(body, "{}", set.click(number))?;
        }
        let response = client
            .post("/v1/clicks", token, &body)
            .await
            .context("publishing clicks")?;
        let told = String::from_utf8_lossy(response.body);
        ensure!(response.status == 200, "{} {told}", response.status);
        let accepted: Accepted = serde_json::from_str(&told).context("no count of clicks")?;
        ensure!(accepted.accepted == upto - next, "clicks refused: {told}");
        next = upto;
    }
    Ok(())
}

/// Publishes probes, whose numbers are `from` and those after it, and waits until they convert: the clicks that were
/// published before them are read then.
pub async fn settle(target: &Target, token: &str, set: Set, from: u64) -> anyhow::Result<()> {
    publish(target, token, set, from..from + PROBES).await?;
    let mut client = Client::new(target.clone());
    let end = Instant::now() + PATIENCE;
    for number in from..from + PROBES {
        loop {
            let (clickid, revenue) = (set.clickid(number), set.revenue(number));
            let path = format!("/v1/postback.php?clickid={clickid}&revenue={revenue}");
            let response = client.get(&path).await.context("a probe")?;
            match judge(&response, set, Aim::Same(number)) {
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
