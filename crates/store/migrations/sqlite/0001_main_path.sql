-- The main path: clicks, conversions, statistics, the postback log, and where each partition stands.
--
-- The twin of PostgreSQL's, where the comments stand. Times are microseconds since 1970, UTC;
-- money is a count of millionths; ids are hyphenated text, flags 0 or 1.

CREATE TABLE topics (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    partitions   INTEGER NOT NULL CHECK (partitions > 0),
    clicks_id    TEXT,
    postbacks_id TEXT
) STRICT;

CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY,
    version   INTEGER NOT NULL,
    clicks    INTEGER NOT NULL,
    postbacks INTEGER NOT NULL,
    sequence  INTEGER NOT NULL,
    published INTEGER NOT NULL,
    unmatched INTEGER NOT NULL
) STRICT;

CREATE TABLE rejects_positions (
    partition INTEGER PRIMARY KEY,
    position  INTEGER NOT NULL
) STRICT;

CREATE TABLE campaigns (
    campaign_id INTEGER PRIMARY KEY,
    name        TEXT NOT NULL DEFAULT '',
    dedupe      TEXT NOT NULL DEFAULT 'click' CHECK (dedupe IN ('click', 'txid')),
    version     INTEGER NOT NULL
) STRICT;

CREATE TABLE clicks (
    clickid         TEXT PRIMARY KEY NOT NULL,
    campaign_id     INTEGER NOT NULL,
    site_id         TEXT NOT NULL,
    source          TEXT NOT NULL,
    publisher_id    TEXT NOT NULL,
    traffic_log_id  TEXT NOT NULL,
    clicked_at      INTEGER NOT NULL,
    kafka_partition INTEGER NOT NULL,
    kafka_offset    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX clicks_clicked_at ON clicks (clicked_at);

CREATE TABLE conversions (
    conversion_id   TEXT PRIMARY KEY NOT NULL,
    clickid         TEXT NOT NULL,
    event           TEXT NOT NULL,
    status          TEXT NOT NULL DEFAULT 'approved',
    campaign_id     INTEGER NOT NULL,
    site_id         TEXT NOT NULL,
    source          TEXT NOT NULL,
    publisher_id    TEXT NOT NULL,
    traffic_log_id  TEXT NOT NULL,
    revenue_micros  INTEGER NOT NULL,
    currency        TEXT NOT NULL,
    currency_sent   INTEGER NOT NULL,
    external_id     TEXT,
    subid0          TEXT,
    subid1          TEXT,
    subid2          TEXT,
    subid3          TEXT,
    subid4          TEXT,
    created_at      INTEGER NOT NULL,
    clicked_at      INTEGER NOT NULL,
    policy_version  INTEGER NOT NULL,
    kafka_partition INTEGER NOT NULL,
    sequence        INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX conversions_dedupe ON conversions (clickid, event, coalesce(external_id, ''));
CREATE UNIQUE INDEX conversions_sequence ON conversions (kafka_partition, sequence);
CREATE INDEX conversions_campaign ON conversions (campaign_id, created_at);

CREATE TABLE conversion_stats (
    campaign_id    INTEGER NOT NULL,
    bucket         INTEGER NOT NULL,
    site_id        TEXT NOT NULL,
    source         TEXT NOT NULL,
    currency       TEXT NOT NULL,
    partition      INTEGER NOT NULL,
    conversions    INTEGER NOT NULL,
    revenue_whole  INTEGER NOT NULL,
    revenue_micros INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, bucket, site_id, source, currency, partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE click_stats (
    campaign_id INTEGER NOT NULL,
    bucket      INTEGER NOT NULL,
    site_id     TEXT NOT NULL,
    source      TEXT NOT NULL,
    partition   INTEGER NOT NULL,
    clicks      INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, bucket, site_id, source, partition)
) STRICT, WITHOUT ROWID;

-- The revenue stays in two integers: SQLite has no exact decimal. The carry is made here, so that
-- revenue_micros is below a million.
CREATE VIEW campaign_statistics AS
SELECT campaign_id, bucket, site_id, source, currency,
       0 AS clicks,
       sum(conversions) AS conversions,
       sum(revenue_whole) + sum(revenue_micros) / 1000000 AS revenue_whole,
       sum(revenue_micros) % 1000000 AS revenue_micros
  FROM conversion_stats
 GROUP BY campaign_id, bucket, site_id, source, currency
UNION ALL
SELECT campaign_id, bucket, site_id, source, NULL, sum(clicks), 0, 0, 0
  FROM click_stats
 GROUP BY campaign_id, bucket, site_id, source;

CREATE TABLE postback_log (
    request_id      TEXT PRIMARY KEY NOT NULL,
    received_at     INTEGER NOT NULL,
    outcome         TEXT NOT NULL
        CHECK (outcome IN ('converted', 'duplicate', 'click_not_found', 'refused')),
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
    kafka_offset    INTEGER
) STRICT;
CREATE INDEX postback_log_clickid ON postback_log (clickid) WHERE clickid IS NOT NULL;
CREATE INDEX postback_log_received_at ON postback_log (received_at);

CREATE TABLE postback_changes (
    request_id     TEXT NOT NULL,
    step           INTEGER NOT NULL,
    outcome        TEXT NOT NULL CHECK (outcome IN ('converted', 'duplicate', 'click_not_found')),
    reason         TEXT NOT NULL,
    conversion_id  TEXT,
    policy_version INTEGER NOT NULL,
    PRIMARY KEY (request_id, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE unmatched (
    request_id   TEXT PRIMARY KEY NOT NULL,
    clickid      TEXT NOT NULL,
    partition    INTEGER NOT NULL,
    kafka_offset INTEGER NOT NULL,
    received_at  INTEGER NOT NULL,
    postback     TEXT NOT NULL
) STRICT;
CREATE INDEX unmatched_clickid ON unmatched (clickid);
CREATE INDEX unmatched_received_at ON unmatched (received_at);
