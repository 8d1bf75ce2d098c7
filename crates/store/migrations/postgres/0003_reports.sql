-- What reports read by: orders to page in, totals of campaigns, tokens for those who read.

-- Newest first, of a campaign, of a site and of all; by the click's time of a campaign.
DROP INDEX conversions_campaign;
CREATE INDEX conversions_campaign_created ON conversions (campaign_id, created_at, conversion_id);
CREATE INDEX conversions_campaign_site
    ON conversions (campaign_id, site_id, created_at, conversion_id);
CREATE INDEX conversions_campaign_clicked ON conversions (campaign_id, clicked_at, conversion_id);
CREATE INDEX conversions_created ON conversions (created_at, conversion_id);
CREATE INDEX conversions_external_id ON conversions (external_id) WHERE external_id IS NOT NULL;

-- conversion_stats and click_stats without site and source: of a large campaign these hold nearly
-- as many rows as there are conversions, and most questions don't ask for either. A conversion
-- counts in the columns of its present status. The slot in the key keeps consumers that write at
-- the same time off each other's rows; it is the lowest partition of the writer.
CREATE TABLE conversion_totals (
    campaign_id     bigint NOT NULL,
    bucket          timestamptz NOT NULL,
    currency        text COLLATE "C" NOT NULL,
    slot            integer NOT NULL,
    approved        bigint NOT NULL,
    approved_whole  bigint NOT NULL,
    approved_micros bigint NOT NULL,
    pending         bigint NOT NULL,
    pending_whole   bigint NOT NULL,
    pending_micros  bigint NOT NULL,
    rejected        bigint NOT NULL,
    rejected_whole  bigint NOT NULL,
    rejected_micros bigint NOT NULL,
    reversed        bigint NOT NULL,
    reversed_whole  bigint NOT NULL,
    reversed_micros bigint NOT NULL,
    PRIMARY KEY (campaign_id, bucket, currency, slot)
) WITH (fillfactor = 70);
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
    campaign_id bigint NOT NULL,
    bucket      timestamptz NOT NULL,
    slot        integer NOT NULL,
    clicks      bigint NOT NULL,
    PRIMARY KEY (campaign_id, bucket, slot)
) WITH (fillfactor = 70);
INSERT INTO click_totals
SELECT campaign_id, bucket, 0, sum(clicks) FROM click_stats GROUP BY campaign_id, bucket;

-- The log, newest first: all of it, a campaign's, a click's.
DROP INDEX postback_log_received_at;
CREATE INDEX postback_log_received_at ON postback_log (received_at, request_id);
CREATE INDEX postback_log_campaign ON postback_log (campaign_id, received_at, request_id)
    WHERE campaign_id IS NOT NULL;
DROP INDEX postback_log_clickid;
CREATE INDEX postback_log_clickid ON postback_log (clickid, received_at, request_id)
    WHERE clickid IS NOT NULL;

-- Of a postback that waited for its click, only the change knows the campaign.
ALTER TABLE postback_changes ADD COLUMN received_at timestamptz;
UPDATE postback_changes c
   SET received_at = coalesce((SELECT l.received_at FROM postback_log l
                                WHERE l.request_id = c.request_id), now());
ALTER TABLE postback_changes ALTER COLUMN received_at SET NOT NULL;
CREATE INDEX postback_changes_campaign ON postback_changes (campaign_id, received_at, request_id)
    WHERE campaign_id IS NOT NULL;

-- `token_id` names a token without telling it. An advertiser's campaigns are those whose settings
-- name it; `campaigns` is a JSON array of ids.
ALTER TABLE access_tokens
    DROP CONSTRAINT access_tokens_role_check,
    ADD CONSTRAINT access_tokens_role_check CHECK (role IN ('admin', 'advertiser', 'campaigns')),
    ADD COLUMN token_id   text,
    ADD COLUMN advertiser text,
    ADD COLUMN campaigns  text,
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN revoked_at timestamptz,
    ADD CHECK ((role = 'advertiser') = (advertiser IS NOT NULL)),
    ADD CHECK ((role = 'campaigns') = (campaigns IS NOT NULL));
UPDATE access_tokens SET token_id = left(digest, 12);
ALTER TABLE access_tokens ALTER COLUMN token_id SET NOT NULL;
CREATE UNIQUE INDEX access_tokens_token_id ON access_tokens (token_id);
CREATE INDEX campaigns_advertiser ON campaigns ((settings ->> 'advertiser'));
