//! `GET /v1/conversions` and `GET /v1/postbacks`: lists, from the newest to the oldest, in pages or
//! as a stream of the whole range.

use crate::access::Access;
use crate::export::{Export, Running};
use crate::parameters::Parameters;
use crate::routes::{Answer, Call, Reports};
use crate::rows;
use crate::table::{Cell, Format, Row, write_json};
use crate::times::Zone;
use hyper::StatusCode;
use postern_core::currency::Currency;
use postern_core::cursor::{self, Place};
use postern_core::ids::RequestId;
use postern_core::status::Status;
use postern_store::reading::{ConversionFilter, DateOf, LogFilter, Page};
use postern_store::{Store, StoreError};

/// Rows of a page where nothing else is asked for, and at most.
const PAGE: i64 = 100;
const MAX_PAGE: i64 = 1_000;

/// What is listed.
#[derive(Clone)]
pub(crate) enum List {
    Conversions(Box<ConversionFilter>),
    Postbacks(Box<LogFilter>),
}

/// A list, as it was asked for.
#[derive(Clone)]
pub(crate) struct Listing {
    pub(crate) list: List,
    pub(crate) zone: Zone,
    /// With what happened later to each row.
    pub(crate) history: bool,
    pub(crate) format: Format,
    /// Most rows.
    pub(crate) limit: Option<i64>,
    pub(crate) after: Option<Place>,
}

impl Listing {
    fn read(
        list: impl FnOnce(&mut Parameters, &Zone) -> List,
        parameters: &mut Parameters,
    ) -> Self {
        let zone = Zone::read(parameters);
        let list = list(parameters, &zone);
        let kind = list.kind();
        Self {
            history: parameters.flag("history"),
            format: parameters.parsed("format", Format::of).unwrap_or_default(),
            limit: parameters.number("limit", 1, MAX_PAGE),
            after: parameters.parsed("cursor", |text| cursor::read(kind, text)),
            list,
            zone,
        }
    }

    /// A page's rows, and where it ended if it is full.
    pub(crate) async fn page(
        &self,
        store: &dyn Store,
        after: Option<Place>,
        limit: i64,
    ) -> Result<(Vec<Row>, Option<Place>), StoreError> {
        let page = Page { after, limit };
        let (rows, last): (Vec<Row>, _) = match &self.list {
            List::Conversions(filter) => {
                let found = store.read_conversions(filter, page, self.history).await?;
                let last = found.last().map(|last| {
                    let at = match filter.date {
                        DateOf::Conversion => last.created_at,
                        DateOf::Click => last.clicked_at,
                    };
                    (at, last.conversion_id)
                });
                let row = |one| rows::conversion(one, &self.zone, self.history);
                (found.into_iter().map(row).collect(), last)
            }
            List::Postbacks(filter) => {
                let found = store.read_log(filter, page, self.history).await?;
                let last = found.last().map(|last| (last.received_at, last.request_id));
                let row = |one| rows::postback(one, &self.zone, self.history);
                (found.into_iter().map(row).collect(), last)
            }
        };
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == limit);
        Ok((rows, last.filter(|_| is_full)))
    }

    /// The names of a row's cells.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let names = match &self.list {
            List::Conversions(_) => rows::CONVERSION,
            List::Postbacks(_) => rows::POSTBACK,
        };
        let history = self.history.then_some("history");
        names.iter().copied().chain(history).collect()
    }
}

impl List {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Conversions(_) => "conversions",
            Self::Postbacks(_) => "postbacks",
        }
    }

    /// Rows of an export that are read at a time: few enough for the longest ones.
    pub(crate) fn rows_at_once(&self) -> i64 {
        match self {
            Self::Conversions(_) => 1_000,
            // With bodies and queries.
            Self::Postbacks(_) => 200,
        }
    }

    /// What a cursor of this list begins with: one of another list means nothing here.
    fn kind(&self) -> u8 {
        match self {
            Self::Conversions(filter) if filter.date == DateOf::Click => b'k',
            Self::Conversions(_) => b'c',
            Self::Postbacks(_) => b'p',
        }
    }
}

/// Filters that conversions and statistics share.
pub(crate) fn conversion_filter(access: &Access, parameters: &mut Parameters) -> ConversionFilter {
    let asked = parameters.number("campaign_id", i64::MIN, i64::MAX);
    let mut filter = ConversionFilter::of(access.of(asked));
    if let Some(date) = parameters.parsed("date", date) {
        filter.date = date;
    }
    filter.clickid = parameters.text("clickid");
    filter.site_id = parameters.text("site_id");
    filter.source = parameters.text("source");
    filter.external_id = parameters.text("external_id");
    filter.event = parameters.text("event");
    filter.currency = parameters.parsed("currency", currency);
    filter.status = parameters.parsed("status", status);
    for (number, subid) in filter.subids.iter_mut().enumerate() {
        *subid = parameters.text(&format!("subid{number}"));
    }
    filter
}

fn date(text: &str) -> Result<DateOf, &'static str> {
    match text {
        "conversion" => Ok(DateOf::Conversion),
        "click" => Ok(DateOf::Click),
        _ => Err("must be conversion or click"),
    }
}

fn currency(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("must be a currency code, like USD");
    }
    Ok(Currency::normalize(text).as_str().to_owned())
}

fn status(text: &str) -> Result<Status, &'static str> {
    text.parse()
        .map_err(|_| "must be approved, pending, rejected or reversed")
}

/// What the log says of postbacks.
const OUTCOMES: [&str; 7] = [
    "converted",
    "duplicate",
    "updated",
    "click_not_found",
    "click_expired",
    "forbidden",
    "refused",
];

fn outcome(text: &str) -> Result<String, String> {
    match OUTCOMES.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("must be one of {}", OUTCOMES.join(", "))),
    }
}

fn log_filter(access: &Access, parameters: &mut Parameters, zone: &Zone) -> LogFilter {
    let asked = parameters.number("campaign_id", i64::MIN, i64::MAX);
    let mut filter = LogFilter::of(access.of(asked));
    filter.range = zone.range(parameters);
    filter.outcome = parameters.parsed("outcome", outcome);
    filter.reason = parameters.text("reason");
    filter.warning = parameters.text("warning");
    filter.request_id = parameters.parsed("request_id", |text| {
        RequestId::parse(text).map_err(|_| "must be a request id, as X-Request-Id gives it")
    });
    filter.clickid = parameters.text("clickid");
    filter.address = parameters.text("address");
    filter.raw_query = parameters.text("raw_query");
    filter
}

impl Reports {
    pub(crate) async fn conversions(&self, call: &Call, query: &str) -> Answer {
        self.listing(call, query, |access, parameters, zone| {
            let mut filter = conversion_filter(access, parameters);
            filter.range = zone.range(parameters);
            List::Conversions(Box::new(filter))
        })
        .await
    }

    pub(crate) async fn postbacks(&self, call: &Call, query: &str) -> Answer {
        self.listing(call, query, |access, parameters, zone| {
            List::Postbacks(Box::new(log_filter(access, parameters, zone)))
        })
        .await
    }

    async fn listing(
        &self,
        call: &Call,
        query: &str,
        list: impl FnOnce(&Access, &mut Parameters, &Zone) -> List,
    ) -> Answer {
        let mut parameters = Parameters::read(query);
        let token = parameters.text("token");
        let access = match self.admit(call, token.as_deref()).await {
            Ok(access) => access,
            Err(answer) => return answer,
        };
        let listing = Listing::read(|given, zone| list(&access, given, zone), &mut parameters);
        if let Err(answer) = parameters.finish() {
            return answer;
        }
        let result = match listing.format {
            Format::Json => self.shown(&listing).await,
            Format::Ndjson | Format::Csv => self.export(listing).await,
        };
        result.unwrap_or_else(|error| Answer::failed(&error))
    }

    async fn shown(&self, listing: &Listing) -> Result<Answer, StoreError> {
        let limit = listing.limit.unwrap_or(PAGE);
        let page = listing.page(self.store.as_ref(), listing.after, limit);
        let (rows, last) = page.await?;
        let cursor = last.map(|last| cursor::write(listing.list.kind(), last));
        let whole: Row = vec![
            ("status", Cell::Text("ok".to_owned())),
            ("tz", Cell::Text(listing.zone.name().to_owned())),
            (listing.list.name(), Cell::rows(&rows)),
            ("next_cursor", cursor.into()),
        ];
        let mut body = Vec::new();
        write_json(&whole, &mut body);
        Ok(Answer::json(StatusCode::OK, body, "ok"))
    }

    async fn export(&self, listing: Listing) -> Result<Answer, StoreError> {
        let Ok(permit) = self.exports.clone().try_acquire_owned() else {
            return Ok(Answer::error(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_exports",
                "As many exports as allowed are running: try again later",
            ));
        };
        let (format, file) = (listing.format, listing.list.name());
        let running = Running::new(self.metrics.exports.clone(), permit);
        let export = Export::begin(self.store.clone(), listing, running).await?;
        Ok(Answer::made(export, format, file))
    }
}
