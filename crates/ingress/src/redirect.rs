//! `GET /v1/click`: a visitor's click, published, and the visitor sent on.
//!
//! A visitor who waits is lost as surely as one who is turned away: he is sent on whatever Kafka
//! does, and a click that it didn't acknowledge is counted.

use crate::campaigns::Known;
use crate::routes::{Answer, Call, Ingress};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use postern_core::answer::Body;
use postern_core::campaign::{Activity, Macros};
use postern_core::ids::ClickId;
use postern_core::record::campaign::CampaignRecord;
use postern_core::record::click::{Click, MAX_LABEL_BYTES};
use postern_core::request::query::{ParsedQuery, parse_str};
use postern_kafka::PublishError;
use prometheus::IntCounterVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a subid that go into the tracking URL.
const SUBID_BYTES: usize = 1024;
/// Bytes of a target at most: what proxies and browsers take. A tracking URL has an eighth of it, so
/// there is always room for the clickid.
const TARGET_BYTES: usize = 16 * 1024;
/// After so many clicks in a row without an acknowledgement visitors no longer wait for one.
const IMPATIENT_AFTER: u32 = 5;

/// At most so often, in milliseconds, a visitor waits all the same, and a line goes to the log.
const NOW_AND_THEN: u64 = 1_000;

/// Whether it makes sense to wait for acknowledgements, and what was lost while it didn't.
pub(crate) struct Patience {
    missed: AtomicU32,
    lost: AtomicU64,
    tried: Occasion,
    said: Occasion,
    results: IntCounterVec,
}

impl Patience {
    pub(crate) fn new(results: IntCounterVec) -> Self {
        let started = Instant::now();
        Self {
            missed: AtomicU32::new(0),
            lost: AtomicU64::new(0),
            tried: Occasion::new(started),
            said: Occasion::new(started),
            results,
        }
    }

    /// Whether to wait: always, while acknowledgements come; else one visitor now and then.
    fn waits(&self) -> bool {
        self.missed.load(Ordering::Relaxed) < IMPATIENT_AFTER || self.tried.is_due()
    }

    fn acknowledged(&self, result: &str) {
        self.missed.store(0, Ordering::Relaxed);
        self.results.with_label_values(&[result]).inc();
    }

    fn missed(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a lost click.
    fn lost(&self, why: &str) {
        self.results.with_label_values(&["lost"]).inc();
        self.lost.fetch_add(1, Ordering::Relaxed);
        if self.said.is_due() {
            tracing::error!(
                lost = self.lost.swap(0, Ordering::Relaxed),
                why,
                "clicks were redirected but not stored: their postbacks will be answered \
                 click_not_found; see whether Kafka takes records"
            );
        }
    }
}

/// Something that is done now and then only.
struct Occasion {
    started: Instant,
    /// Milliseconds after `started` of the last time, counted from 1; 0 for never.
    last: AtomicU64,
}

impl Occasion {
    fn new(started: Instant) -> Self {
        Self {
            started,
            last: AtomicU64::new(0),
        }
    }

    /// Whether it is time again; true for one of those who ask.
    fn is_due(&self) -> bool {
        let elapsed = self.started.elapsed().as_millis();
        let now = u64::try_from(elapsed).unwrap_or(u64::MAX - 1) + 1;
        let last = self.last.load(Ordering::Relaxed);
        (last == 0 || now.saturating_sub(last) >= NOW_AND_THEN)
            && self
                .last
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl Ingress {
    pub(crate) async fn redirect(&self, call: &Call, query: &str) -> Answer {
        let visit = match self.visit(query) {
            Ok(visit) => visit,
            Err(answer) => return answer,
        };
        let Some(clickid) = mint() else {
            tracing::error!("no random bytes for a clickid");
            return Answer::unavailable();
        };
        let Some(location) = visit.location(&clickid) else {
            tracing::error!(visit.campaign_id, "a tracking URL makes no Location");
            return Answer::unavailable();
        };
        let labels = [visit.site, visit.source, String::new(), String::new()];
        let (id, campaign) = (clickid.clone(), visit.campaign_id);
        let click = Click::from_parts(id, campaign, labels, call.received_at);
        self.settle_click(&click).await;
        Answer {
            status: StatusCode::FOUND,
            body: Body::new("ok").text("clickid", clickid.as_str()).finish(),
            outcome: "redirected",
            location: Some(location),
        }
    }

    /// Publishes the click and waits for its acknowledgement as long as that makes sense.
    async fn settle_click(&self, click: &Click) {
        if !self.gate.is_open() {
            self.patience.lost("the topics have not been checked yet");
            return;
        }
        let delivery = match self.publish_click(click) {
            Ok(delivery) => delivery,
            Err(error) => {
                self.patience.lost(&error.to_string());
                return;
            }
        };
        let wait = if self.patience.waits() {
            self.config.redirect_timeout
        } else {
            Duration::ZERO
        };
        settle(delivery, wait, &self.patience).await;
    }

    fn visit(&self, query: &str) -> Result<Visit, Answer> {
        let bad = |code, message: &str| Answer::error(StatusCode::BAD_REQUEST, code, message);
        let parameters = parse_str(query.as_bytes());
        let (name, given) = first(&parameters, &["campaign", "campaign_id"])
            .ok_or_else(|| bad("missing_campaign", "campaign parameter is required"))?;
        let campaign_id = std::str::from_utf8(given)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .filter(|id| *id > 0)
            .ok_or_else(|| {
                let message = format!("{name} must be an integer above 0");
                bad("invalid_campaign", &message)
            })?;
        let absent = |code, message: &str| Answer::error(StatusCode::NOT_FOUND, code, message);
        let record = match self.campaigns.get(campaign_id) {
            Known::Set(record) => record,
            Known::Unset => {
                return Err(absent("campaign_not_found", "There is no such campaign"));
            }
            Known::NotYet => return Err(Answer::unavailable()),
        };
        let state = match record.status {
            Activity::Active => None,
            Activity::Paused => Some("This campaign is paused"),
            Activity::Closed => Some("This campaign is closed"),
        };
        if let Some(message) = state {
            let status = StatusCode::GONE;
            return Err(Answer::error(status, "campaign_not_active", message));
        }
        if record.tracking_url.is_none() {
            let message = "This campaign has no tracking URL";
            return Err(absent("no_tracking_url", message));
        }
        let label = |names: &[&'static str]| {
            let given = first(&parameters, names).map(|(_, value)| value);
            clean(given.unwrap_or_default(), MAX_LABEL_BYTES)
        };
        Ok(Visit {
            campaign_id,
            site: label(&["site", "site_id"]),
            source: label(&["source"]),
            subids: ["subid0", "subid1", "subid2", "subid3", "subid4"].map(|name| {
                clean(
                    parameters.get(name.as_bytes()).unwrap_or_default(),
                    SUBID_BYTES,
                )
            }),
            record,
        })
    }
}

/// A visitor who can be sent on.
struct Visit {
    campaign_id: i64,
    record: Arc<CampaignRecord>,
    site: String,
    source: String,
    subids: [String; 5],
}

impl Visit {
    /// Where he is sent. Values that make it longer than anybody takes are left out, his subids
    /// first: the clickid is what matters, and nobody is turned away for the others.
    fn location(&self, clickid: &ClickId) -> Option<HeaderValue> {
        let url = self.record.tracking_url.as_ref()?;
        let bare = Macros {
            clickid: clickid.as_str(),
            campaign_id: self.campaign_id,
            ..Macros::default()
        };
        let labelled = Macros {
            site_id: &self.site,
            source: &self.source,
            ..bare
        };
        let whole = Macros {
            subids: self.subids.each_ref().map(String::as_str),
            ..labelled
        };
        [whole, labelled, bare]
            .iter()
            .map(|macros| url.target(macros))
            .find(|target| target.len() <= TARGET_BYTES)
            .and_then(|target| HeaderValue::try_from(target).ok())
    }
}

/// Waits for a click's acknowledgement; where `wait` isn't long enough, a task of its own counts
/// what becomes of it. There are as many of these at most as the producer's queue holds, and they
/// end with its delivery timeout.
async fn settle<T>(
    delivery: impl Future<Output = Result<T, PublishError>> + Send + 'static,
    wait: Duration,
    patience: &Arc<Patience>,
) {
    let mut delivery = Box::pin(delivery);
    match tokio::time::timeout(wait, &mut delivery).await {
        Ok(Ok(_)) => patience.acknowledged("acknowledged"),
        Ok(Err(error)) => {
            patience.missed();
            patience.lost(&error.to_string());
        }
        Err(_) => {
            patience.missed();
            let patience = Arc::clone(patience);
            tokio::spawn(async move {
                match delivery.await {
                    Ok(_) => patience.acknowledged("late"),
                    Err(error) => patience.lost(&error.to_string()),
                }
            });
        }
    }
}

/// 128 random bits: an id that nobody can guess.
fn mint() -> Option<ClickId> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    let text = format!("{:032x}", u128::from_be_bytes(random));
    ClickId::parse(text.as_bytes()).ok()
}

/// The first of these names that has a value other than nothing.
fn first<'p>(
    parameters: &'p ParsedQuery<'_>,
    names: &[&'static str],
) -> Option<(&'static str, &'p [u8])> {
    names.iter().find_map(|name| {
        let value = parameters.get(name.as_bytes())?;
        (!value.is_empty()).then_some((*name, value))
    })
}

/// A label as a click may have it: nobody is turned away for one.
fn clean(bytes: &[u8], limit: usize) -> String {
    let mut text: String = String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    text.truncate(text.floor_char_boundary(limit));
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use postern_core::campaign::TrackingUrl;
    use prometheus::Opts;

    #[test]
    fn ids_are_random_and_labels_are_made_fit() {
        let (one, two) = (mint().unwrap(), mint().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), 32);
        assert_eq!(clean(b"a\xff\0b", 255), "a\u{fffd}\u{fffd}b");
        assert_eq!(clean("é".repeat(200).as_bytes(), 255).len(), 254);
    }

    fn patience() -> (Arc<Patience>, impl Fn(&str) -> u64) {
        let results = IntCounterVec::new(Opts::new("clicks", "clicks"), &["result"]).unwrap();
        let counted = results.clone();
        let count = move |result: &str| counted.with_label_values(&[result]).get();
        (Arc::new(Patience::new(results)), count)
    }

    async fn kafka(takes: u64, end: Result<(), PublishError>) -> Result<(), PublishError> {
        tokio::time::sleep(Duration::from_millis(takes)).await;
        end
    }

    #[tokio::test(start_paused = true)]
    async fn every_click_ends_once_whether_its_visitor_waits_or_not() {
        let (patience, count) = patience();
        let ends = || (count("acknowledged"), count("late"), count("lost"));
        let wait = Duration::from_millis(500);
        settle(kafka(400, Ok(())), wait, &patience).await;
        assert_eq!(ends(), (1, 0, 0));
        let refused = || Err(PublishError::QueueFull);
        settle(kafka(400, refused()), wait, &patience).await;
        assert_eq!(ends(), (1, 0, 1));
        // What comes after the visitor was sent on.
        let started = Instant::now();
        settle(kafka(600, Ok(())), wait, &patience).await;
        settle(kafka(600, refused()), wait, &patience).await;
        settle(kafka(600, Ok(())), Duration::ZERO, &patience).await;
        assert_eq!(started.elapsed(), 2 * wait);
        tokio::time::sleep(2 * wait).await;
        assert_eq!(ends(), (1, 2, 2));
    }

    #[test]
    fn values_that_are_too_long_are_left_out() {
        let visit = |url: &str, site: usize, subid: usize| Visit {
            campaign_id: 18,
            record: Arc::new(CampaignRecord {
                campaign_id: 18,
                version: 1,
                status: Activity::Active,
                tracking_url: Some(TrackingUrl::parse(url).unwrap()),
            }),
            site: "s".repeat(site),
            source: "o".to_owned(),
            subids: ["x"; 5].map(|x| x.repeat(subid)),
        };
        let clickid = mint().unwrap();
        let location = |url: &str, site, subid| {
            let location = visit(url, site, subid).location(&clickid).unwrap();
            location.to_str().unwrap().replace(clickid.as_str(), "ID")
        };
        let url = format!("https://shop.example/{{source}}?{}", "{subid0}".repeat(17));
        let whole = format!("https://shop.example/o?{}&clickid=ID", "x".repeat(17 * 900));
        assert_eq!(location(&url, 1, 900), whole);
        let labelled = "https://shop.example/o?&clickid=ID";
        assert_eq!(location(&url, 1, 1024), labelled);
        let url = format!("https://shop.example/?{}", "{site_id}".repeat(200));
        assert_eq!(location(&url, 255, 0), "https://shop.example/?&clickid=ID");
        let longest = format!("https://shop.example/?{}", "{clickid}".repeat(225));
        assert!(location(&longest, 255, 1024).ends_with("IDID"));
    }

    #[tokio::test(start_paused = true)]
    async fn after_misses_in_a_row_a_visitor_waits_now_and_then() {
        let (patience, count) = patience();
        for _ in 0..IMPATIENT_AFTER {
            assert!(patience.waits());
            patience.missed();
        }
        assert!(patience.waits());
        assert!(!patience.waits());
        tokio::time::advance(Duration::from_millis(NOW_AND_THEN)).await;
        assert!(patience.waits());
        assert!(!patience.waits());
        patience.acknowledged("late");
        assert!(patience.waits() && patience.waits());
        patience.lost("test");
        assert_eq!((count("late"), count("lost")), (1, 1));
    }
}
