//! The postback log: decided and refused ones in one table.

use super::Part;
use crate::{RefusedPostback, parts};
use jiff::Timestamp;
use postern_core::decision::LogEntry;
use postern_core::record::postback::Origin;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

macro_rules! insert_log {
    ($end:literal) => {
        concat!(
            "INSERT INTO postback_log (request_id, received_at, outcome, reason, message, clickid, \
             campaign_id, conversion_id, policy_version, revenue_micros, revenue_raw, currency, \
             currency_sent, external_id, warnings, method, raw_query, raw_body, address, \
             user_agent, kafka_partition, kafka_offset, event, status_word, status, observed) \
             SELECT unnest($1::uuid[]), unnest($2::timestamptz[]), unnest($3::text[]), \
             unnest($4::text[]), unnest($5::text[]), unnest($6::text[]), unnest($7::bigint[]), \
             unnest($8::uuid[]), unnest($9::bigint[]), unnest($10::bigint[]), \
             unnest($11::text[]), unnest($12::text[]), unnest($13::bool[]), \
             unnest($14::text[]), unnest($15::text[])::json, unnest($16::text[]), \
             unnest($17::text[]), unnest($18::text[]), unnest($19::text[]), \
             unnest($20::text[]), unnest($21::int[]), unnest($22::bigint[]), \
             unnest($23::text[]), unnest($24::text[]), unnest($25::text[]), unnest($26::text[])",
            $end
        )
    };
}

/// New rows of decided postbacks, in the order of time, as conversions are. A known request id
/// among them is an error, by which the consumer learns of it.
#[derive(Default)]
pub(super) struct Log<'a> {
    request_ids: Vec<Uuid>,
    received_at: Vec<Timestamp>,
    outcomes: Vec<&'a str>,
    reasons: Vec<Option<&'a str>>,
    messages: Vec<Option<&'a str>>,
    clickids: Vec<Option<&'a str>>,
    campaigns: Vec<Option<i64>>,
    conversions: Vec<Option<Uuid>>,
    policy_versions: Vec<i64>,
    revenues: Vec<Option<i64>>,
    revenues_raw: Vec<Option<&'a str>>,
    currencies: Vec<Option<&'a str>>,
    currencies_sent: Vec<Option<bool>>,
    external_ids: Vec<Option<&'a str>>,
    warnings: Vec<Option<String>>,
    methods: Vec<&'a str>,
    raw_queries: Vec<&'a str>,
    raw_bodies: Vec<&'a str>,
    addresses: Vec<&'a str>,
    user_agents: Vec<&'a str>,
    partitions: Vec<Option<i32>>,
    offsets: Vec<Option<i64>>,
    events: Vec<Option<&'a str>>,
    status_words: Vec<Option<&'a str>>,
    statuses: Vec<Option<&'a str>>,
    observed: Vec<Option<String>>,
}

impl<'a> Log<'a> {
    pub(super) fn of(entries: &'a [LogEntry]) -> Self {
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_unstable_by_key(|entry| entry.postback.request_id);
        let mut columns = Self::default();
        for entry in sorted {
            let (postback, known) = (&entry.postback, &entry.known);
            columns.request_ids.push(postback.request_id.as_uuid());
            columns.received_at.push(postback.received_at);
            columns.outcomes.push(known.outcome.word());
            columns.reasons.push(entry.reason);
            columns.messages.push(None);
            columns.clickids.push(Some(postback.clickid.as_str()));
            columns.campaigns.push(known.outcome.campaign_id());
            columns
                .conversions
                .push(known.conversion_id.map(|id| id.as_uuid()));
            columns.policy_versions.push(known.policy_version);
            columns.revenues.push(Some(postback.revenue.micros()));
            columns.revenues_raw.push(postback.revenue_raw.as_deref());
            columns.currencies.push(Some(postback.currency.as_str()));
            columns.currencies_sent.push(Some(postback.currency_sent));
            columns.external_ids.push(postback.external_id.as_deref());
            columns
                .warnings
                .push(parts::write_warnings(&postback.warnings));
            columns.push_origin(&postback.origin);
            columns.partitions.push(Some(entry.partition));
            columns.offsets.push(Some(entry.offset));
            columns.events.push(postback.event.as_deref());
            let said = postback.status.as_ref();
            columns
                .status_words
                .push(said.map(|said| said.word.as_str()));
            columns.statuses.push(parts::status_of(&known.outcome));
            columns
                .observed
                .push(parts::write_observed(&entry.observed));
        }
        columns
    }

    pub(super) fn of_refused(refused: &'a [RefusedPostback]) -> Self {
        let mut columns = Self::default();
        for postback in refused {
            columns.request_ids.push(postback.request_id.as_uuid());
            columns.received_at.push(postback.received_at);
            columns.outcomes.push(parts::REFUSED);
            columns.reasons.push(Some(&postback.reason));
            columns.messages.push(Some(&postback.message));
            columns.clickids.push(None);
            columns.campaigns.push(None);
            columns.conversions.push(None);
            columns.policy_versions.push(0);
            columns.revenues.push(None);
            columns.revenues_raw.push(None);
            columns.currencies.push(None);
            columns.currencies_sent.push(None);
            columns.external_ids.push(None);
            columns.warnings.push(None);
            columns.push_origin(&postback.origin);
            columns.partitions.push(None);
            columns.offsets.push(None);
            columns.events.push(None);
            columns.status_words.push(None);
            columns.statuses.push(None);
            columns.observed.push(None);
        }
        columns
    }

    fn push_origin(&mut self, origin: &'a Origin) {
        self.methods.push(&origin.method);
        self.raw_queries.push(&origin.raw_query);
        self.raw_bodies.push(&origin.raw_body);
        self.addresses.push(&origin.address);
        self.user_agents.push(&origin.user_agent);
    }
}

impl Part for Log<'_> {
    const SQL: &'static str = insert_log!("");

    fn is_empty(&self) -> bool {
        self.request_ids.is_empty()
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.request_ids,
            &self.received_at,
            &self.outcomes,
            &self.reasons,
            &self.messages,
            &self.clickids,
            &self.campaigns,
            &self.conversions,
            &self.policy_versions,
            &self.revenues,
            &self.revenues_raw,
            &self.currencies,
            &self.currencies_sent,
            &self.external_ids,
            &self.warnings,
            &self.methods,
            &self.raw_queries,
            &self.raw_bodies,
            &self.addresses,
            &self.user_agents,
            &self.partitions,
            &self.offsets,
            &self.events,
            &self.status_words,
            &self.statuses,
            &self.observed,
        ]
    }
}

/// Rows of refused postbacks: those that are known already change nothing.
pub(super) struct Refused<'a>(pub(super) Log<'a>);

impl Part for Refused<'_> {
    const SQL: &'static str = insert_log!(" ON CONFLICT (request_id) DO NOTHING");

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.params()
    }
}
