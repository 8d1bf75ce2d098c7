-- Clicks, conversions, their statistics and their log, as an installation has them after some
-- months: :conversions conversions over :days days, twice as many clicks. Campaign 1 has 30% of
-- them, 499 others share the rest; 100 sites each, of which few have most. Straight into the
-- tables, which must be empty; the partitions are none that a consumer uses. The totals are as
-- :writers workers write them.

\set ON_ERROR_STOP on
SET synchronous_commit = off;
SET work_mem = '512MB';
SET maintenance_work_mem = '1GB';
SET max_parallel_maintenance_workers = 1;
SET timezone = 'UTC';

BEGIN;

-- Indexes come back when the rows are there: that takes a tenth of the time.
CREATE TEMP TABLE kept_indexes ON COMMIT DROP AS
SELECT i.indexrelid::regclass::text AS name, i.indrelid::regclass::text AS tab, c.conname,
       coalesce('ALTER TABLE ' || i.indrelid::regclass || ' ADD CONSTRAINT ' || c.conname || ' '
                    || pg_get_constraintdef(c.oid), pg_get_indexdef(i.indexrelid)) AS definition
  FROM pg_index i
  LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u')
 WHERE i.indrelid IN ('clicks'::regclass, 'conversions'::regclass, 'conversion_statuses'::regclass,
                      'postback_log'::regclass, 'conversion_stats'::regclass,
                      'conversion_totals'::regclass, 'click_stats'::regclass,
                      'click_totals'::regclass);
-- New files: what is written into them in this transaction needs no log.
TRUNCATE clicks, conversions, conversion_statuses, postback_log, conversion_stats,
         conversion_totals, click_stats, click_totals;
DO $$
DECLARE one record;
BEGIN
    FOR one IN SELECT * FROM kept_indexes LOOP
        IF one.conname IS NULL THEN
            EXECUTE 'DROP INDEX ' || one.name;
        ELSE
            EXECUTE 'ALTER TABLE ' || one.tab || ' DROP CONSTRAINT ' || one.conname;
        END IF;
    END LOOP;
END $$;

-- A number from 0 to below 1 for each n, the same in every run.
CREATE FUNCTION pg_temp.part(n bigint, seed bigint) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT (hashint8extended(n, seed) & 1073741823) / 1073741824.0 $$;

\echo clicks
INSERT INTO clicks (campaign_id, clicked_at, kafka_offset, kafka_partition, clickid, site_id,
                    source, publisher_id, traffic_log_id)
SELECT CASE WHEN pg_temp.part(n, 1) < 0.3 THEN 1
            ELSE 2 + floor(499 * pg_temp.part(n, 2)) END,
       date_trunc('milliseconds', now() - interval '1 hour'
           - (2 * :conversions - n) * (interval '1 day' * :days / (2 * :conversions))),
       n, 1000 + n % 12, md5(n::text),
       'site-' || floor(100 * power(pg_temp.part(n, 3), 2)),
       (ARRAY['popunder', 'push', 'native', 'banner', 'search'])[1 + floor(5 * pg_temp.part(n, 4))],
       'publisher-' || n % 1000, 'log-' || n
  FROM generate_series(1, 2 * :conversions::bigint) AS n;

\echo conversions
INSERT INTO conversions (conversion_id, clickid, event, status, campaign_id, site_id, source,
    publisher_id, traffic_log_id, revenue_micros, currency, currency_sent, external_id, subid0,
    subid1, subid2, subid3, subid4, created_at, clicked_at, policy_version, kafka_partition,
    sequence, dedupe)
SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0')
            || '7' || substr(md5('i' || n), 1, 3) || '8' || substr(md5('j' || n), 1, 15))::uuid,
       clickid, (ARRAY['', 'deposit', 'registration'])[1 + n % 3],
       CASE WHEN pg_temp.part(n, 5) < 0.9 THEN 'approved'
            WHEN pg_temp.part(n, 5) < 0.96 THEN 'pending' ELSE 'rejected' END,
       campaign_id, site_id, source, publisher_id, traffic_log_id,
       10000 * floor(500 * pg_temp.part(n, 6)),
       CASE WHEN pg_temp.part(n, 7) < 0.8 THEN 'USD'
            WHEN pg_temp.part(n, 7) < 0.95 THEN 'EUR' ELSE 'INR' END,
       true, CASE WHEN n % 4 < 2 THEN 'tx-' || n END,
       (ARRAY['US', 'DE', 'IN', 'BR', 'FR', 'GB', 'ID', 'MX', 'PL', 'TR'])
           [1 + floor(10 * pg_temp.part(n, 8))],
       'source-' || floor(50 * pg_temp.part(n, 9)), 'LP_' || chr(65 + (n % 8)::int),
       'adset_' || floor(1000 * pg_temp.part(n, 10)), 'user' || n,
       at, clicked_at, 1, kafka_partition, n, 'event'
  FROM (SELECT kafka_offset AS n, clicks.*,
               clicked_at + (30 + floor(3000 * pg_temp.part(kafka_offset, 11)))
                   * interval '1 second' AS at
          FROM clicks WHERE kafka_offset % 2 = 0) AS c;

\echo statuses
INSERT INTO conversion_statuses (conversion_id, status_at, status_id, status, policy_version,
                                 kafka_partition, sequence)
SELECT conversion_id, created_at + interval '2 days', md5('s' || sequence)::uuid,
       CASE WHEN status = 'pending' THEN 'approved' ELSE 'reversed' END, 1, kafka_partition,
       sequence + 1000000000
  FROM conversions WHERE sequence % 50 = 0;

\echo log
INSERT INTO postback_log (request_id, received_at, outcome, clickid, campaign_id, conversion_id,
    policy_version, revenue_micros, currency, currency_sent, external_id, method, raw_query,
    raw_body, address, user_agent, kafka_partition, kafka_offset, event)
SELECT conversion_id, created_at, 'converted', clickid, campaign_id, conversion_id, 1,
       revenue_micros, currency, true, external_id, 'GET',
       'clickid=' || clickid || '&revenue=' || revenue_micros / 1000000.0 || '&subid0=' || subid0
           || '&subid4=' || subid4, '', '192.0.2.' || sequence % 250, 'tracker/1.0',
       kafka_partition, sequence, event
  FROM conversions
UNION ALL
SELECT md5('d' || sequence)::uuid, created_at + interval '5 seconds', 'duplicate', clickid,
       campaign_id, conversion_id, 1, revenue_micros, currency, true, external_id, 'GET',
       'clickid=' || clickid, '', '192.0.2.' || sequence % 250, 'tracker/1.0', kafka_partition,
       sequence, event
  FROM conversions WHERE sequence % 20 = 0;

\echo statistics
INSERT INTO click_stats
SELECT campaign_id, date_bin('15 minutes', clicked_at, 'epoch'::timestamptz), site_id, source,
       kafka_partition, count(*)
  FROM clicks GROUP BY 1, 2, 3, 4, 5 ORDER BY 2, 1;
INSERT INTO click_totals
SELECT campaign_id, bucket, partition % :writers, sum(clicks) FROM click_stats
 GROUP BY 1, 2, 3 ORDER BY 2, 1;
INSERT INTO conversion_stats (campaign_id, bucket, site_id, source, currency, status, partition,
                              conversions, revenue_whole, revenue_micros)
SELECT v.campaign_id, date_bin('15 minutes', v.created_at, 'epoch'::timestamptz), v.site_id,
       v.source, v.currency, coalesce(s.status, v.status), v.kafka_partition, count(*),
       sum(v.revenue_micros / 1000000), sum(v.revenue_micros % 1000000)
  FROM conversions v LEFT JOIN conversion_statuses s ON s.conversion_id = v.conversion_id
 GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 2, 1;
INSERT INTO conversion_totals
SELECT campaign_id, bucket, currency, partition % :writers,
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
  FROM conversion_stats GROUP BY 1, 2, 3, 4 ORDER BY 2, 1;

\echo indexes
DO $$
DECLARE one record;
BEGIN
    FOR one IN SELECT * FROM kept_indexes ORDER BY conname NULLS LAST LOOP
        EXECUTE one.definition;
    END LOOP;
END $$;
COMMIT;

\echo vacuum
VACUUM (ANALYZE);
