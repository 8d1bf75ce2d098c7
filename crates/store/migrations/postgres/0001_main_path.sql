-- The main path: clicks, conversions, statistics, the postback log, and where each partition stands.
--
-- Text that is looked up or grouped by is COLLATE "C": compared byte by byte, whatever the
-- database's locale. Money is a count of millionths. Times are those of the records; nothing here
-- asks the clock.

-- The topics that this store is filled from; one row.
CREATE TABLE topics (
    id           integer PRIMARY KEY CHECK (id = 1),
    partitions   integer NOT NULL CHECK (partitions > 0),
    clicks_id    text,
    postbacks_id text
);

-- Where each partition stands. Every transaction of a consumer locks its rows, compares them and
-- moves them on. Rows are updated with each batch: room in the page keeps that within the page.
CREATE TABLE partitions (
    partition integer PRIMARY KEY,
    version   bigint NOT NULL,
    clicks    bigint NOT NULL,
    postbacks bigint NOT NULL,
    sequence  bigint NOT NULL,
    published bigint NOT NULL,
    unmatched bigint NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- The next offset of each partition of the rejects topic.
CREATE TABLE rejects_positions (
    partition integer PRIMARY KEY,
    position  bigint NOT NULL
) WITH (fillfactor = 10);

-- The settings of campaigns; one that isn't here has the defaults, version 0.
CREATE TABLE campaigns (
    campaign_id bigint PRIMARY KEY,
    name        text NOT NULL DEFAULT '',
    dedupe      text NOT NULL DEFAULT 'click' CHECK (dedupe IN ('click', 'txid')),
    version     bigint NOT NULL
);

-- One table and not partitioned: the figures are in docs/BENCHMARKS.md. A click is never updated,
-- so pages are filled; a day's expiry is about 3% of a month, hence the vacuum settings.
CREATE TABLE clicks (
    campaign_id     bigint NOT NULL,
    clicked_at      timestamptz NOT NULL,
    kafka_offset    bigint NOT NULL,
    kafka_partition integer NOT NULL,
    clickid         text COLLATE "C" PRIMARY KEY,
    site_id         text COLLATE "C" NOT NULL,
    source          text COLLATE "C" NOT NULL,
    publisher_id    text NOT NULL,
    traffic_log_id  text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_insert_scale_factor = 0.05,
        autovacuum_analyze_scale_factor = 0.02);
-- Expiry goes by it, in batches.
CREATE INDEX clicks_clicked_at ON clicks (clicked_at);

CREATE TABLE conversions (
    conversion_id   uuid PRIMARY KEY,
    clickid         text COLLATE "C" NOT NULL,
    event           text COLLATE "C" NOT NULL,
    status          text NOT NULL DEFAULT 'approved',
    campaign_id     bigint NOT NULL,
    site_id         text NOT NULL,
    source          text NOT NULL,
    publisher_id    text NOT NULL,
    traffic_log_id  text NOT NULL,
    revenue_micros  bigint NOT NULL,
    currency        text NOT NULL,
    currency_sent   boolean NOT NULL,
    external_id     text COLLATE "C",
    subid0          text,
    subid1          text,
    subid2          text,
    subid3          text,
    subid4          text,
    created_at      timestamptz NOT NULL,
    clicked_at      timestamptz NOT NULL,
    policy_version  bigint NOT NULL,
    kafka_partition integer NOT NULL,
    sequence        bigint NOT NULL
);
-- One conversion per dedupe key.
CREATE UNIQUE INDEX conversions_dedupe ON conversions (clickid, event, coalesce(external_id, ''));
-- Events are published in this order.
CREATE UNIQUE INDEX conversions_sequence ON conversions (kafka_partition, sequence);
CREATE INDEX conversions_campaign ON conversions (campaign_id, created_at);

-- Statistics per quarter of an hour, UTC. The partition in the key keeps consumers of different
-- partitions off each other's rows. Whole units and the millionths beside them are summed apart:
-- a sum of millionths alone would leave 64 bits.
CREATE TABLE conversion_stats (
    campaign_id    bigint NOT NULL,
    bucket         timestamptz NOT NULL,
    site_id        text COLLATE "C" NOT NULL,
    source         text COLLATE "C" NOT NULL,
    currency       text COLLATE "C" NOT NULL,
    partition      integer NOT NULL,
    conversions    bigint NOT NULL,
    revenue_whole  bigint NOT NULL,
    revenue_micros bigint NOT NULL,
    PRIMARY KEY (campaign_id, bucket, site_id, source, currency, partition)
) WITH (fillfactor = 70);

CREATE TABLE click_stats (
    campaign_id bigint NOT NULL,
    bucket      timestamptz NOT NULL,
    site_id     text COLLATE "C" NOT NULL,
    source      text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    clicks      bigint NOT NULL,
    PRIMARY KEY (campaign_id, bucket, site_id, source, partition)
) WITH (fillfactor = 70);

-- Both over all partitions. Clicks have no currency: they stand in rows of their own, where
-- currency is null.
CREATE VIEW campaign_statistics AS
SELECT campaign_id, bucket, site_id, source, currency,
       0::bigint AS clicks,
       sum(conversions)::bigint AS conversions,
       sum(revenue_whole::numeric) + sum(revenue_micros::numeric) / 1000000 AS revenue
  FROM conversion_stats
 GROUP BY campaign_id, bucket, site_id, source, currency
UNION ALL
SELECT campaign_id, bucket, site_id, source, NULL, sum(clicks)::bigint, 0, 0
  FROM click_stats
 GROUP BY campaign_id, bucket, site_id, source;

-- Every postback, refused ones too. A row is never changed: later steps are postback_changes.
CREATE TABLE postback_log (
    request_id      uuid PRIMARY KEY,
    received_at     timestamptz NOT NULL,
    outcome         text NOT NULL
        CHECK (outcome IN ('converted', 'duplicate', 'click_not_found', 'refused')),
    reason          text,
    message         text,
    clickid         text COLLATE "C",
    campaign_id     bigint,
    conversion_id   uuid,
    policy_version  bigint NOT NULL,
    revenue_micros  bigint,
    revenue_raw     text,
    currency        text,
    currency_sent   boolean,
    external_id     text,
    warnings        json,
    method          text NOT NULL,
    raw_query       text NOT NULL,
    raw_body        text NOT NULL,
    address         text NOT NULL,
    user_agent      text NOT NULL,
    kafka_partition integer,
    kafka_offset    bigint
);
CREATE INDEX postback_log_clickid ON postback_log (clickid) WHERE clickid IS NOT NULL;
CREATE INDEX postback_log_received_at ON postback_log USING brin (received_at);

-- What became of a postback later; the highest step holds.
CREATE TABLE postback_changes (
    request_id     uuid NOT NULL,
    step           integer NOT NULL,
    outcome        text NOT NULL CHECK (outcome IN ('converted', 'duplicate', 'click_not_found')),
    reason         text NOT NULL,
    conversion_id  uuid,
    policy_version bigint NOT NULL,
    PRIMARY KEY (request_id, step)
);

-- Postbacks that wait for their click, whole, as their records.
CREATE TABLE unmatched (
    request_id   uuid PRIMARY KEY,
    clickid      text COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    kafka_offset bigint NOT NULL,
    received_at  timestamptz NOT NULL,
    postback     text NOT NULL
);
CREATE INDEX unmatched_clickid ON unmatched (clickid);
CREATE INDEX unmatched_received_at ON unmatched (received_at);
