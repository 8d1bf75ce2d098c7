-- Campaigns as operators set them, what is said of a conversion after it was stored, and access
-- tokens.
--
-- The twin of PostgreSQL's, where the comments stand. SQLite changes no constraints: tables whose
-- constraints change are made anew and take their rows over.

DROP VIEW campaign_statistics;

ALTER TABLE campaigns RENAME TO old_campaigns;
CREATE TABLE campaigns (
    campaign_id INTEGER PRIMARY KEY,
    version     INTEGER NOT NULL,
    published   INTEGER NOT NULL DEFAULT 0,
    settings    TEXT NOT NULL DEFAULT '{}',
    secret      TEXT
) STRICT;
INSERT INTO campaigns (campaign_id, version, settings)
SELECT campaign_id, version, json_object('name', name, 'dedupe', dedupe) FROM old_campaigns;
DROP TABLE old_campaigns;
CREATE INDEX campaigns_unpublished ON campaigns (campaign_id) WHERE published < version;

CREATE TABLE campaign_versions (
    campaign_id INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    settings    TEXT NOT NULL,
    secret_set  INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, version)
) STRICT, WITHOUT ROWID;

INSERT INTO campaign_versions (campaign_id, version, settings, secret_set, changed_at)
SELECT campaign_id, version, settings, 0, unixepoch() * 1000000 FROM campaigns;

CREATE VIEW campaign_settings AS
SELECT campaign_id, version, settings ->> 'advertiser' AS advertiser, settings ->> 'name' AS name,
       settings ->> 'status' AS status, settings ->> 'dedupe' AS dedupe,
       settings ->> 'tracking_url' AS tracking_url, settings, secret IS NOT NULL AS secret_set
  FROM campaigns;

ALTER TABLE conversions ADD COLUMN dedupe TEXT NOT NULL DEFAULT 'click'
    CHECK (dedupe IN ('click', 'txid', 'event'));
UPDATE conversions SET dedupe = 'txid'
 WHERE campaign_id IN (SELECT campaign_id FROM campaigns WHERE settings ->> 'dedupe' = 'txid');

CREATE TABLE conversion_statuses (
    conversion_id   TEXT NOT NULL,
    status_at       INTEGER NOT NULL,
    status_id       TEXT NOT NULL,
    status          TEXT NOT NULL
        CHECK (status IN ('approved', 'pending', 'rejected', 'reversed')),
    policy_version  INTEGER NOT NULL,
    kafka_partition INTEGER NOT NULL,
    sequence        INTEGER,
    PRIMARY KEY (conversion_id, status_at, status_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX conversion_statuses_sequence
    ON conversion_statuses (kafka_partition, sequence) WHERE sequence IS NOT NULL;

CREATE VIEW current_conversions AS
SELECT v.conversion_id, v.clickid, v.event, coalesce(s.status, v.status) AS status,
       coalesce(s.status_at, v.created_at) AS status_at,
       coalesce(s.status_id, v.conversion_id) AS status_id,
       v.campaign_id, v.site_id, v.source, v.publisher_id, v.traffic_log_id, v.revenue_micros,
       v.currency, v.currency_sent, v.external_id, v.subid0, v.subid1, v.subid2, v.subid3,
       v.subid4, v.created_at, v.clicked_at, v.policy_version, v.dedupe, v.kafka_partition,
       v.sequence
  FROM conversions v
  LEFT JOIN conversion_statuses s ON s.conversion_id = v.conversion_id
   AND (s.status_at, s.status_id) =
       (SELECT c.status_at, c.status_id FROM conversion_statuses c
         WHERE c.conversion_id = v.conversion_id
           AND (c.status_at, c.status_id) > (v.created_at, v.conversion_id)
         ORDER BY c.status_at DESC, c.status_id DESC LIMIT 1);

ALTER TABLE conversion_stats RENAME TO old_conversion_stats;
CREATE TABLE conversion_stats (
    campaign_id    INTEGER NOT NULL,
    bucket         INTEGER NOT NULL,
    site_id        TEXT NOT NULL,
    source         TEXT NOT NULL,
    currency       TEXT NOT NULL,
    status         TEXT NOT NULL,
    partition      INTEGER NOT NULL,
    conversions    INTEGER NOT NULL,
    revenue_whole  INTEGER NOT NULL,
    revenue_micros INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, bucket, site_id, source, currency, status, partition)
) STRICT, WITHOUT ROWID;
INSERT INTO conversion_stats
SELECT campaign_id, bucket, site_id, source, currency, 'approved', partition, conversions,
       revenue_whole, revenue_micros
  FROM old_conversion_stats;
DROP TABLE old_conversion_stats;

CREATE VIEW campaign_statistics AS
SELECT campaign_id, bucket, site_id, source, currency,
       0 AS clicks,
       coalesce(sum(conversions) FILTER (WHERE status = 'approved'), 0) AS conversions,
       coalesce(sum(revenue_whole) FILTER (WHERE status = 'approved'), 0)
           + coalesce(sum(revenue_micros) FILTER (WHERE status = 'approved'), 0) / 1000000
           AS revenue_whole,
       coalesce(sum(revenue_micros) FILTER (WHERE status = 'approved'), 0) % 1000000
           AS revenue_micros,
       coalesce(sum(conversions) FILTER (WHERE status = 'pending'), 0) AS pending,
       coalesce(sum(conversions) FILTER (WHERE status = 'rejected'), 0) AS rejected,
       coalesce(sum(conversions) FILTER (WHERE status = 'reversed'), 0) AS reversed
  FROM conversion_stats
 GROUP BY campaign_id, bucket, site_id, source, currency
UNION ALL
SELECT campaign_id, bucket, site_id, source, NULL, sum(clicks), 0, 0, 0, 0, 0, 0
  FROM click_stats
 GROUP BY campaign_id, bucket, site_id, source;

ALTER TABLE postback_log RENAME TO old_postback_log;
DROP INDEX postback_log_clickid;
DROP INDEX postback_log_received_at;
CREATE TABLE postback_log (
    request_id      TEXT PRIMARY KEY NOT NULL,
    received_at     INTEGER NOT NULL,
    outcome         TEXT NOT NULL
        CHECK (outcome IN ('converted', 'duplicate', 'updated', 'click_not_found',
                           'click_expired', 'forbidden', 'refused')),
    reason          TEXT,
    message         TEXT,
    clickid         TEXT,
    campaign_id     INTEGER,
    conversion_id   TEXT,
    policy_version  INTEGER NOT NULL,
    revenue_micros  INTEGER,
    revenue_raw     TEXT,
    currency        TEXT,
    currency_sent   INTEGER,
    external_id     TEXT,
    warnings        TEXT,
    method          TEXT NOT NULL,
    raw_query       TEXT NOT NULL,
    raw_body        TEXT NOT NULL,
    address         TEXT NOT NULL,
    user_agent      TEXT NOT NULL,
    kafka_partition INTEGER,
    kafka_offset    INTEGER,
    event           TEXT,
    status_word     TEXT,
    status          TEXT,
    observed        TEXT
) STRICT;
INSERT INTO postback_log
SELECT request_id, received_at, outcome, reason, message, clickid, campaign_id, conversion_id,
       policy_version, revenue_micros, revenue_raw, currency, currency_sent, external_id, warnings,
       method, raw_query, raw_body, address, user_agent, kafka_partition, kafka_offset,
       NULL, NULL, NULL, NULL
  FROM old_postback_log;
DROP TABLE old_postback_log;
CREATE INDEX postback_log_clickid ON postback_log (clickid) WHERE clickid IS NOT NULL;
CREATE INDEX postback_log_received_at ON postback_log (received_at);

ALTER TABLE postback_changes RENAME TO old_postback_changes;
CREATE TABLE postback_changes (
    request_id     TEXT NOT NULL,
    step           INTEGER NOT NULL,
    outcome        TEXT NOT NULL
        CHECK (outcome IN ('converted', 'duplicate', 'updated', 'click_not_found',
                           'click_expired', 'forbidden')),
    reason         TEXT NOT NULL,
    conversion_id  TEXT,
    policy_version INTEGER NOT NULL,
    campaign_id    INTEGER,
    status         TEXT,
    detail         TEXT,
    observed       TEXT,
    PRIMARY KEY (request_id, step)
) STRICT, WITHOUT ROWID;
INSERT INTO postback_changes
SELECT request_id, step, outcome, reason, conversion_id, policy_version, NULL, NULL, NULL, NULL
  FROM old_postback_changes;
DROP TABLE old_postback_changes;

CREATE TABLE access_tokens (
    digest     TEXT PRIMARY KEY NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('admin')),
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
