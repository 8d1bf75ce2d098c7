-- The candidates for the clicks table, filled with :rows clicks over 30 days.
--
-- A click is named by a number n, its id is click_id(n) and its time click_at(n), so every layout
-- holds the same clicks and a lookup can name any of them. "Now" is a Thursday noon: the weekly
-- layout is in the middle of its current week, neither its best nor its worst moment.
CREATE EXTENSION pg_prewarm;

CREATE TABLE settings AS
SELECT :rows::bigint AS clicks, timestamptz '2025-11-27 12:00+00' AS ends, 30 AS days;

CREATE FUNCTION click_id(n bigint) RETURNS text LANGUAGE sql IMMUTABLE
RETURN md5('click ' || n);

CREATE FUNCTION click_at(n bigint) RETURNS timestamptz LANGUAGE sql STABLE
RETURN (SELECT ends - (clicks - n) * (days * interval '1 day' / clicks) FROM settings);

-- Fixed-width columns first: no padding between them.
CREATE TABLE click (
    campaign_id     bigint NOT NULL,
    clicked_at      timestamptz NOT NULL,
    kafka_offset    bigint NOT NULL,
    kafka_partition int NOT NULL,
    clickid         text COLLATE "C" NOT NULL,
    site_id         text,
    source          text,
    publisher_id    text,
    traffic_log_id  text
);

CREATE FUNCTION make_clicks(first bigint, last bigint) RETURNS SETOF click LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 1 + n % 500,
           s.ends - (s.clicks - n) * (s.days * interval '1 day' / s.clicks),
           n / 12, (n % 12)::int, click_id(n),
           'site' || n % 20000, 'source-' || n % 300, 'pub' || n % 5000,
           substr(md5('log ' || n), 1, 20)
    FROM settings s, generate_series(first, last) n;
END;

-- The unpartitioned table, twice: the two differ in what expiry uses to find old clicks. For
-- lookups they are the same table, so the difference between them is the noise of the run.
CREATE TABLE flat_btree (LIKE click, PRIMARY KEY (clickid));
CREATE INDEX ON flat_btree (clicked_at);
CREATE TABLE flat_brin (LIKE click, PRIMARY KEY (clickid));
CREATE INDEX ON flat_brin USING brin (clicked_at) WITH (pages_per_range = 32);

-- A key of a range-partitioned table has to contain clicked_at: it can't hold "one click per id".
CREATE TABLE weekly (LIKE click, PRIMARY KEY (clickid, clicked_at)) PARTITION BY RANGE (clicked_at);
CREATE TABLE daily (LIKE click, PRIMARY KEY (clickid, clicked_at)) PARTITION BY RANGE (clicked_at);
CREATE TABLE hash16 (LIKE click, PRIMARY KEY (clickid)) PARTITION BY HASH (clickid);
CREATE INDEX ON hash16 (clicked_at);
CREATE TABLE hash32 (LIKE click, PRIMARY KEY (clickid)) PARTITION BY HASH (clickid);
CREATE INDEX ON hash32 (clicked_at);

SET timezone = 'UTC';
DO $$
DECLARE
    day timestamptz;
    s settings;
BEGIN
    SELECT * INTO s FROM settings;
    FOR day IN SELECT generate_series(date_trunc('week', s.ends - s.days * interval '1 day'),
                                      s.ends + interval '14 days', interval '7 days') LOOP
        EXECUTE format('CREATE TABLE weekly_%s PARTITION OF weekly FOR VALUES FROM (%L) TO (%L)',
                       to_char(day, 'YYYYMMDD'), day, day + interval '7 days');
    END LOOP;
    FOR day IN SELECT generate_series(date_trunc('day', s.ends - s.days * interval '1 day'),
                                      s.ends + interval '14 days', interval '1 day') LOOP
        EXECUTE format('CREATE TABLE daily_%s PARTITION OF daily FOR VALUES FROM (%L) TO (%L)',
                       to_char(day, 'YYYYMMDD'), day, day + interval '1 day');
    END LOOP;
    FOR i IN 0..15 LOOP
        EXECUTE format('CREATE TABLE hash16_%s PARTITION OF hash16 FOR VALUES WITH (MODULUS 16, REMAINDER %s)', i, i);
    END LOOP;
    FOR i IN 0..31 LOOP
        EXECUTE format('CREATE TABLE hash32_%s PARTITION OF hash32 FOR VALUES WITH (MODULUS 32, REMAINDER %s)', i, i);
    END LOOP;
END $$;

-- The tables that really hold the rows of a layout.
CREATE FUNCTION leaves(layout text) RETURNS SETOF regclass LANGUAGE sql STABLE AS $$
    SELECT relid FROM pg_partition_tree(layout::regclass) WHERE isleaf
    UNION ALL
    SELECT oid FROM pg_class WHERE oid = layout::regclass AND relkind = 'r'
$$;

-- Filled in the order of time into tables that have their indexes: the keys arrive in random
-- order, as they do in life, and the index pages end as full as they are in life.
CREATE PROCEDURE fill(layout text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %I SELECT * FROM make_clicks(1, (SELECT clicks FROM settings))', layout);
END $$;
CALL fill('flat_btree');
CALL fill('flat_brin');
CALL fill('weekly');
CALL fill('daily');
CALL fill('hash16');
CALL fill('hash32');
VACUUM (ANALYZE, FREEZE);

CREATE TABLE size AS
SELECT layout,
       sum(pg_table_size(leaf)) / s.clicks AS heap,
       sum(pg_indexes_size(leaf)) / s.clicks AS indexes
FROM settings s,
     unnest('{flat_btree,flat_brin,weekly,daily,hash16,hash32}'::text[]) layout,
     leaves(layout) leaf
GROUP BY layout, s.clicks;
