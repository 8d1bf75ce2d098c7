//! What is shown of a conversion and of a logged postback. Never publisher or traffic log, and of
//! a conversion neither address nor query.

use crate::table::{Cell, Row};
use crate::times::Zone;
use postern_store::reading::{LogStep, ShownConversion, ShownPostback, StatusEntry};

/// The cells of a conversion, without its history.
pub(crate) const CONVERSION: &[&str] = &[
    "conversion_id",
    "clickid",
    "campaign_id",
    "site_id",
    "source",
    "revenue",
    "currency",
    "subid0",
    "subid1",
    "subid2",
    "subid3",
    "subid4",
    "external_id",
    "event",
    "status",
    "created_at",
    "clicked_at",
];

/// The cells of a logged postback, without its history.
pub(crate) const POSTBACK: &[&str] = &[
    "received_at",
    "outcome",
    "reason",
    "message",
    "request_id",
    "clickid",
    "campaign_id",
    "conversion_id",
    "revenue",
    "currency",
    "external_id",
    "event",
    "conversion_status",
    "warnings",
    "observed",
    "method",
    "raw_query",
    "raw_body",
    "address",
    "user_agent",
];

fn named(names: &[&'static str], cells: Vec<Cell>) -> Row {
    debug_assert_eq!(names.len(), cells.len());
    names.iter().copied().zip(cells).collect()
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(crate) fn conversion(one: ShownConversion, zone: &Zone, history: bool) -> Row {
    let [subid0, subid1, subid2, subid3, subid4] = one.subids;
    let cells = vec![
        Cell::Text(one.conversion_id.to_string()),
        one.clickid.into(),
        Cell::number(one.campaign_id),
        one.site_id.into(),
        one.source.into(),
        Cell::amount(one.revenue_micros),
        one.currency.into(),
        subid0.into(),
        subid1.into(),
        subid2.into(),
        subid3.into(),
        subid4.into(),
        one.external_id.into(),
        filled(one.event).into(),
        one.status.into(),
        Cell::Text(zone.show(one.created_at)),
        Cell::Text(zone.show(one.clicked_at)),
    ];
    let mut row = named(CONVERSION, cells);
    if history {
        let entries: Vec<Row> = one.history.into_iter().map(|one| said(one, zone)).collect();
        row.push(("history", Cell::rows(&entries)));
    }
    row
}

fn said(entry: StatusEntry, zone: &Zone) -> Row {
    vec![
        ("status", entry.status.into()),
        ("at", Cell::Text(zone.show(entry.at))),
        ("request_id", Cell::Text(entry.request_id.to_string())),
    ]
}

pub(crate) fn postback(one: ShownPostback, zone: &Zone, history: bool) -> Row {
    let observed: Vec<&str> = one.observed.iter().flat_map(|all| all.split(',')).collect();
    let cells = vec![
        Cell::Text(zone.show(one.received_at)),
        one.outcome.into(),
        one.reason.into(),
        one.message.into(),
        Cell::Text(one.request_id.to_string()),
        one.clickid.into(),
        one.campaign_id.map(Cell::number).into(),
        one.conversion_id.map(|id| id.to_string()).into(),
        one.revenue_micros.map(Cell::amount).into(),
        one.currency.into(),
        one.external_id.into(),
        one.event.into(),
        one.status.into(),
        Cell::Json(one.warnings.unwrap_or_else(|| "[]".to_owned())),
        Cell::Json(serde_json::Value::from(observed).to_string()),
        one.method.into(),
        one.raw_query.into(),
        one.raw_body.into(),
        one.address.into(),
        one.user_agent.into(),
    ];
    let mut row = named(POSTBACK, cells);
    if history {
        let steps: Vec<Row> = one.history.into_iter().map(step).collect();
        row.push(("history", Cell::rows(&steps)));
    }
    row
}

fn step(step: LogStep) -> Row {
    vec![
        ("outcome", step.outcome.into()),
        ("cause", step.reason.into()),
        ("reason", step.detail.into()),
        (
            "conversion_id",
            step.conversion_id.map(|id| id.to_string()).into(),
        ),
    ]
}
