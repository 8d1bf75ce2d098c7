-- What reports read by: orders to page in, totals of campaigns, tokens for those who read.
--
-- The twin of PostgreSQL's, where the comments stand.

DROP INDEX conversions_campaign;
CREATE INDEX conversions_campaign_created ON conversions (campaign_id, created_at, conversion_id);
CREATE INDEX conversions_campaign_site
    ON conversions (campaign_id, site_id, created_at, conversion_id);
CREATE INDEX conversions_campaign_clicked ON conversions (campaign_id, clicked_at, conversion_id);
CREATE INDEX conversions_created ON conversions (created_at, conversion_id);
CREATE INDEX conversions_external_id ON conversions (external_id) WHERE external_id IS NOT NULL;

CREATE TABLE conversion_totals (
    campaign_id     INTEGER NOT NULL,
    bucket          INTEGER NOT NULL,
    currency        TEXT NOT NULL,
    slot            INTEGER NOT NULL,
    approved        INTEGER NOT NULL,
    approved_whole  INTEGER NOT NULL,
    approved_micros INTEGER NOT NULL,
    pending         INTEGER NOT NULL,
    pending_whole   INTEGER NOT NULL,
    pending_micros  INTEGER NOT NULL,
    rejected        INTEGER NOT NULL,
    rejected_whole  INTEGER NOT NULL,
    rejected_micros INTEGER NOT NULL,
    reversed        INTEGER NOT NULL,
    reversed_whole  INTEGER NOT NULL,
    reversed_micros INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, bucket, currency, slot)
) STRICT, WITHOUT ROWID;
INSERT INTO conversion_totals
SELECT campaign_id, bucket, currency, 0,
       coalesce(sum(conversions) FILTER (WHERE status = 'approved'), 0),
       coalesce(sum(revenue_whole) FILTER (WHERE status = 'approved'), 0),
       coalesce(sum(revenue_micros) FILTER (WHERE status = 'approved'), 0),
       coalesce(sum(conversions) FILTER (WHERE status = 'pending'), 0),
       coalesce(sum(revenue_whole) FILTER (WHERE status = 'pending'), 0),
       coalesce(sum(revenue_micros) FILTER (WHERE status = 'pending'), 0),
       coalesce(sum(conversions) FILTER (WHERE status = 'rejected'), 0),
       coalesce(sum(revenue_whole) FILTER (WHERE status = 'rejected'), 0),
       coalesce(sum(revenue_micros) FILTER (WHERE status = 'rejected'), 0),
       coalesce(sum(conversions) FILTER (WHERE status = 'reversed'), 0),
       coalesce(sum(revenue_whole) FILTER (WHERE status = 'reversed'), 0),
       coalesce(sum(revenue_micros) FILTER (WHERE status = 'reversed'), 0)
  FROM conversion_stats
 GROUP BY campaign_id, bucket, currency;

CREATE TABLE click_totals (
    campaign_id INTEGER NOT NULL,
    bucket      INTEGER NOT NULL,
    slot        INTEGER NOT NULL,
    clicks      INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, bucket, slot)
) STRICT, WITHOUT ROWID;
INSERT INTO click_totals
SELECT campaign_id, bucket, 0, sum(clicks) FROM click_stats GROUP BY campaign_id, bucket;

DROP INDEX postback_log_received_at;
CREATE INDEX postback_log_received_at ON postback_log (received_at, request_id);
CREATE INDEX postback_log_campaign ON postback_log (campaign_id, received_at, request_id)
    WHERE campaign_id IS NOT NULL;
DROP INDEX postback_log_clickid;
CREATE INDEX postback_log_clickid ON postback_log (clickid, received_at, request_id)
    WHERE clickid IS NOT NULL;

ALTER TABLE postback_changes ADD COLUMN received_at INTEGER NOT NULL DEFAULT 0;
UPDATE postback_changes
   SET received_at = coalesce((SELECT l.received_at FROM postback_log l
                                WHERE l.request_id = postback_changes.request_id),
                              unixepoch() * 1000000);
CREATE INDEX postback_changes_campaign ON postback_changes (campaign_id, received_at, request_id)
    WHERE campaign_id IS NOT NULL;

ALTER TABLE access_tokens RENAME TO old_access_tokens;
CREATE TABLE access_tokens (
    digest     TEXT PRIMARY KEY NOT NULL,
    token_id   TEXT NOT NULL UNIQUE,
    role       TEXT NOT NULL CHECK (role IN ('admin', 'advertiser', 'campaigns')),
    advertiser TEXT,
    campaigns  TEXT,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    CHECK ((role = 'advertiser') = (advertiser IS NOT NULL)),
    CHECK ((role = 'campaigns') = (campaigns IS NOT NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO access_tokens (digest, token_id, role, name, created_at)
SELECT digest, substr(digest, 1, 12), role, name, created_at FROM old_access_tokens;
DROP TABLE old_access_tokens;
CREATE INDEX campaigns_advertiser ON campaigns (settings ->> 'advertiser');
