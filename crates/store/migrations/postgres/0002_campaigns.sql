-- Campaigns as operators set them, what is said of a conversion after it was stored, and access
-- tokens.

-- The settings are JSON, as the API shows them; the secret stands apart so that no reader of
-- settings meets it. `published` is the version that stands on postern.campaigns.
ALTER TABLE campaigns
    ADD COLUMN published bigint NOT NULL DEFAULT 0,
    ADD COLUMN settings  json NOT NULL DEFAULT '{}',
    ADD COLUMN secret    text;
UPDATE campaigns SET settings = json_build_object('name', name, 'dedupe', dedupe);
ALTER TABLE campaigns DROP COLUMN name, DROP COLUMN dedupe;
CREATE INDEX campaigns_unpublished ON campaigns (campaign_id) WHERE published < version;

-- What each version said.
CREATE TABLE campaign_versions (
    campaign_id bigint NOT NULL,
    version     bigint NOT NULL,
    settings    json NOT NULL,
    secret_set  boolean NOT NULL,
    changed_at  timestamptz NOT NULL,
    PRIMARY KEY (campaign_id, version)
);

-- When earlier versions were set isn't known; the log names the present one.
INSERT INTO campaign_versions (campaign_id, version, settings, secret_set, changed_at)
SELECT campaign_id, version, settings, false, now() FROM campaigns;

-- For people who look into the store.
CREATE VIEW campaign_settings AS
SELECT campaign_id, version, settings ->> 'advertiser' AS advertiser, settings ->> 'name' AS name,
       settings ->> 'status' AS status, settings ->> 'dedupe' AS dedupe,
       settings ->> 'tracking_url' AS tracking_url, settings, secret IS NOT NULL AS secret_set
  FROM campaigns;

-- The policy that a conversion was decided by: what it didn't look at isn't known of it.
ALTER TABLE conversions
    ADD COLUMN dedupe text NOT NULL DEFAULT 'click' CHECK (dedupe IN ('click', 'txid', 'event')),
    ADD CHECK (status IN ('approved', 'pending', 'rejected', 'reversed'));
UPDATE conversions v SET dedupe = 'txid'
  FROM campaigns c
 WHERE c.campaign_id = v.campaign_id AND c.settings ->> 'dedupe' = 'txid';

-- What later postbacks said of a conversion's status. A row is never changed, and neither is the
-- conversion's own: of that and these the one with the greatest (status_at, status_id) holds.
-- Changes are numbered with the conversions of their partition; a row without a number only
-- confirms the status, and no event tells of it.
CREATE TABLE conversion_statuses (
    conversion_id   uuid NOT NULL,
    status_at       timestamptz NOT NULL,
    status_id       uuid NOT NULL,
    status          text NOT NULL
        CHECK (status IN ('approved', 'pending', 'rejected', 'reversed')),
    policy_version  bigint NOT NULL,
    kafka_partition integer NOT NULL,
    sequence        bigint,
    PRIMARY KEY (conversion_id, status_at, status_id)
);
CREATE UNIQUE INDEX conversion_statuses_sequence
    ON conversion_statuses (kafka_partition, sequence) WHERE sequence IS NOT NULL;

-- Conversions with their present status.
CREATE VIEW current_conversions AS
SELECT v.conversion_id, v.clickid, v.event, coalesce(s.status, v.status) AS status,
       coalesce(s.status_at, v.created_at) AS status_at,
       coalesce(s.status_id, v.conversion_id) AS status_id,
       v.campaign_id, v.site_id, v.source, v.publisher_id, v.traffic_log_id, v.revenue_micros,
       v.currency, v.currency_sent, v.external_id, v.subid0, v.subid1, v.subid2, v.subid3,
       v.subid4, v.created_at, v.clicked_at, v.policy_version, v.dedupe, v.kafka_partition,
       v.sequence
  FROM conversions v
  LEFT JOIN LATERAL (SELECT c.status, c.status_at, c.status_id FROM conversion_statuses c
                      WHERE c.conversion_id = v.conversion_id
                        AND (c.status_at, c.status_id) > (v.created_at, v.conversion_id)
                      ORDER BY c.status_at DESC, c.status_id DESC LIMIT 1) s ON true;

-- A conversion counts in the row of its present status.
DROP VIEW campaign_statistics;
ALTER TABLE conversion_stats ADD COLUMN status text COLLATE "C" NOT NULL DEFAULT 'approved';
ALTER TABLE conversion_stats ALTER COLUMN status DROP DEFAULT,
    DROP CONSTRAINT conversion_stats_pkey,
    ADD PRIMARY KEY (campaign_id, bucket, site_id, source, currency, status, partition);
CREATE VIEW campaign_statistics AS
SELECT campaign_id, bucket, site_id, source, currency,
       0::bigint AS clicks,
       coalesce(sum(conversions) FILTER (WHERE status = 'approved'), 0)::bigint AS conversions,
       coalesce(sum(revenue_whole::numeric) FILTER (WHERE status = 'approved'), 0)
           + coalesce(sum(revenue_micros::numeric) FILTER (WHERE status = 'approved'), 0) / 1000000
           AS revenue,
       coalesce(sum(conversions) FILTER (WHERE status = 'pending'), 0)::bigint AS pending,
       coalesce(sum(conversions) FILTER (WHERE status = 'rejected'), 0)::bigint AS rejected,
       coalesce(sum(conversions) FILTER (WHERE status = 'reversed'), 0)::bigint AS reversed
  FROM conversion_stats
 GROUP BY campaign_id, bucket, site_id, source, currency
UNION ALL
SELECT campaign_id, bucket, site_id, source, NULL, sum(clicks)::bigint, 0, 0, 0, 0, 0
  FROM click_stats
 GROUP BY campaign_id, bucket, site_id, source;

-- `observed`: what would have refused the postback, had its campaign enforced it, with commas.
ALTER TABLE postback_log
    DROP CONSTRAINT postback_log_outcome_check,
    ADD CONSTRAINT postback_log_outcome_check
        CHECK (outcome IN ('converted', 'duplicate', 'updated', 'click_not_found',
                           'click_expired', 'forbidden', 'refused')),
    ADD COLUMN event       text,
    ADD COLUMN status_word text,
    ADD COLUMN status      text,
    ADD COLUMN observed    text;

-- `reason` says what brought the change about, `detail` why it came to this.
ALTER TABLE postback_changes
    DROP CONSTRAINT postback_changes_outcome_check,
    ADD CONSTRAINT postback_changes_outcome_check
        CHECK (outcome IN ('converted', 'duplicate', 'updated', 'click_not_found',
                           'click_expired', 'forbidden')),
    ADD COLUMN campaign_id bigint,
    ADD COLUMN status      text,
    ADD COLUMN detail      text,
    ADD COLUMN observed    text;

-- Tokens for the HTTP endpoints: a digest each, the token itself is kept nowhere.
CREATE TABLE access_tokens (
    digest     text PRIMARY KEY,
    role       text NOT NULL CHECK (role IN ('admin')),
    name       text NOT NULL,
    created_at timestamptz NOT NULL
);
