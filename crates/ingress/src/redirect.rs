//! `GET /v1/click`: a visitor's click, published, and the visitor sent on.
//!
//! A visitor who waits is lost as surely as one who is turned away: he is sent on whatever Kafka
//! does, and a click that neither it nor the spool took is counted.

use crate::campaigns::Known;
use crate::occasion::Occasion;
use crate::outlet::{Kept, Outlet};
use crate::routes::{Answer, Call, Ingress};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use postern_core::answer::Body;
use postern_core::campaign::{Activity, Macros};
use postern_core::ids::ClickId;
use postern_core::record::campaign::CampaignRecord;
use postern_core::record::click::{Click, MAX_LABEL_BYTES};
use postern_core::request::query::{ParsedQuery, parse_str};
use postern_runtime::telemetry::chain;
use prometheus::IntCounterVec;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Bytes of a subid that go into the tracking URL.
const SUBID_BYTES: usize = 1024;
/// Bytes of a target at most: what proxies and browsers take. A tracking URL has an eighth of it, so
/// there is always room for the clickid.
const TARGET_BYTES: usize = 16 * 1024;
/// Clicks whose visitors were sent on before they were durable. Each is a task of its own; there
/// are as many at most as requests may be in flight.
pub struct Left {
    tasks: TaskTracker,
    places: Arc<Semaphore>,
}

impl Left {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            tasks: TaskTracker::new(),
            places: Arc::new(Semaphore::new(most)),
        }
    }

    /// Waits for the last of them. To be called when no more come.
    pub async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
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
        self.settle_click(click).await;
        Answer {
            status: StatusCode::FOUND,
            body: Body::new("ok").text("clickid", clickid.as_str()).finish(),
            outcome: "redirected",
            location: Some(location),
        }
    }

    /// Makes the click durable; where that takes longer than a visitor should wait, behind his
    /// back.
    async fn settle_click(&self, click: Click) {
        let keeping = keep(
            self.outlet.clone(),
            click,
            self.metrics.redirects.clone(),
            self.said.clone(),
        );
        settle(keeping, self.config.redirect_timeout, &self.left).await;
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

/// Makes a click durable and counts what became of it; `late` says whether the visitor has left.
async fn keep(
    outlet: Outlet,
    click: Click,
    results: IntCounterVec,
    said: Arc<Occasion>,
) -> impl FnOnce(bool) + Send {
    let kept = outlet.keep_click(&click).await;
    move |late| {
        let result = match &kept {
            Ok(Kept::Placed(_)) if late => "late",
            Ok(Kept::Placed(_)) => "acknowledged",
            Ok(Kept::Spooled) => "spooled",
            Err(error) => {
                if let Some(lost) = said.is_due() {
                    let why = chain(error);
                    tracing::error!(
                        lost,
                        why,
                        "clicks were redirected but not stored: their postbacks will be answered \
                         click_not_found; see whether kafka takes records, and give the spool room"
                    );
                }
                "lost"
            }
        };
        results.with_label_values(&[result]).inc();
    }
}

/// Waits for a click; where `wait` isn't long enough, a task of its own does.
async fn settle<D: FnOnce(bool) + Send + 'static>(
    keeping: impl Future<Output = D> + Send + 'static,
    wait: Duration,
    left: &Left,
) {
    let mut keeping = Box::pin(keeping);
    let done = match tokio::time::timeout(wait, &mut keeping).await {
        Ok(done) => done,
        Err(_) => {
            if let Ok(place) = left.places.clone().try_acquire_owned() {
                left.tasks.spawn(async move {
                    keeping.await(true);
                    drop(place);
                });
                return;
            }
            // As many as may be are waited for: this visitor waits himself.
            keeping.await
        }
    };
    done(false);
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
    use std::sync::Mutex;
    use tokio::time::Instant;

    #[test]
    fn ids_are_random_and_labels_are_made_fit() {
        let (one, two) = (mint().unwrap(), mint().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), 32);
        assert_eq!(clean(b"a\xff\0b", 255), "a\u{fffd}\u{fffd}b");
        assert_eq!(clean("é".repeat(200).as_bytes(), 255).len(), 254);
    }

    /// A click that takes so long, and tells whether its visitor had left.
    async fn kafka(takes: u64, told: Arc<Mutex<Vec<bool>>>) -> impl FnOnce(bool) + Send + 'static {
        tokio::time::sleep(Duration::from_millis(takes)).await;
        move |late| told.lock().unwrap().push(late)
    }

    #[tokio::test(start_paused = true)]
    async fn every_click_ends_once_whether_its_visitor_waits_or_not() {
        let (left, told) = (Left::new(2), Arc::<Mutex<Vec<bool>>>::default());
        let wait = Duration::from_millis(500);
        settle(kafka(400, told.clone()), wait, &left).await;
        assert_eq!(*told.lock().unwrap(), [false]);
        let started = Instant::now();
        settle(kafka(1600, told.clone()), wait, &left).await;
        settle(kafka(1600, told.clone()), wait, &left).await;
        assert_eq!(started.elapsed(), 2 * wait);
        // Nobody else may be left behind now.
        settle(kafka(700, told.clone()), wait, &left).await;
        assert_eq!(started.elapsed(), 2 * wait + Duration::from_millis(700));
        assert_eq!(
            told.lock().unwrap().iter().filter(|late| !**late).count(),
            2
        );
        left.settled().await;
        assert_eq!(told.lock().unwrap().iter().filter(|late| **late).count(), 2);
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
}
