-- The figures. Ratios are to the unpartitioned table with a btree, in the same run.
\pset border 2
\pset linestyle old-ascii
\pset null ''
\echo
\echo '== Bytes per click'
SELECT layout, round(heap) AS heap, round(indexes) AS indexes, round(heap + indexes) AS total
FROM size ORDER BY array_position('{flat_btree,flat_brin,weekly,daily,hash16,hash32}', layout);

\echo '== Lookups, warm: milliseconds per batch, ratio of the medians to flat_btree/any'
WITH f AS (
    SELECT size, layout, form, count(*) AS n, avg(found) AS found,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS median,
           percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) AS p99
    FROM lookup_sample WHERE phase = 'idle' GROUP BY 1, 2, 3)
SELECT f.size, f.layout, f.form, f.n AS batches, round(f.found) AS found, round(f.median::numeric, 2) AS median,
       round(f.p99::numeric, 2) AS p99, round((f.median / b.median)::numeric, 2) AS ratio,
       round((f.p99 / b.p99)::numeric, 2) AS p99_ratio
FROM f JOIN f b ON b.size = f.size AND b.layout = 'flat_btree' AND b.form = 'any'
ORDER BY f.size DESC, array_position('{flat_btree,flat_brin,weekly,daily,hash16,hash32}', f.layout), f.form;

\echo '== Inserts after a checkpoint: clicks per second, WAL bytes per click'
WITH f AS (
    SELECT layout, form, sum(clicks) AS clicks, sum(clicks) / sum(ms) * 1000 AS rate,
           sum(wal) / sum(clicks) AS wal,
           sum(wal) FILTER (WHERE round = 1) / sum(clicks) FILTER (WHERE round = 1) AS first,
           sum(wal) FILTER (WHERE round = 5) / sum(clicks) FILTER (WHERE round = 5) AS last
    FROM insert_sample WHERE phase = 'idle' GROUP BY 1, 2)
SELECT f.layout, f.form, f.clicks, round(f.rate::numeric, -2) AS clicks_per_s,
       round((f.rate / b.rate)::numeric, 2) AS ratio, round(f.wal) AS wal_per_click,
       round(f.first) AS wal_first_fifth, round(f.last) AS wal_last_fifth
FROM f JOIN f b ON b.layout = 'flat_btree'
ORDER BY array_position('{flat_btree,flat_brin,weekly,daily,hash16,hash32}', f.layout), f.form DESC;

\echo '== Expiry of one day, by round: milliseconds'
WITH e AS (
    SELECT layout, form, round, count(*) AS statements, sum(gone) AS clicks, max(ms) AS longest, sum(ms) AS total
    FROM expiry_sample WHERE phase = 'idle' GROUP BY 1, 2, 3)
SELECT e.layout, e.form, e.round, e.statements, e.clicks, round(e.longest::numeric, 1) AS longest,
       round(e.total::numeric) AS total, round(v.ms::numeric) AS vacuum,
       round(v.bytes / 1048576) AS mib_after
FROM e LEFT JOIN vacuum_sample v USING (layout, round)
ORDER BY array_position('{flat_btree,flat_brin,weekly,daily,hash16,hash32}', e.layout), e.form, e.round;

\echo '== Expiry of one day while an old snapshot is held: milliseconds'
SELECT layout, form, count(*) AS statements, sum(gone) AS clicks, round(max(ms)::numeric, 1) AS longest,
       round(sum(ms)::numeric) AS total
FROM expiry_sample WHERE phase = 'old snapshot' GROUP BY 1, 2 ORDER BY 1, 2;

\echo '== Lookups of 1,000 just before and while expiry runs without a pause: milliseconds'
WITH e AS (
    SELECT layout, min(began) AS first, max(began + ms * interval '1 ms') AS last,
           count(*) AS statements, max(ms) AS longest
    FROM expiry_sample WHERE phase = 'busy' GROUP BY 1),
calm AS (
    SELECT layout, percentile_cont('{0.5,0.99}'::float8[]) WITHIN GROUP (ORDER BY ms) AS p
    FROM lookup_sample WHERE phase = 'calm' GROUP BY 1),
busy AS (
    SELECT s.layout, s.form, count(*) AS batches, max(s.ms) AS max,
           percentile_cont('{0.5,0.99}'::float8[]) WITHIN GROUP (ORDER BY s.ms) AS p
    FROM lookup_sample s JOIN e ON e.layout = s.layout AND s.began BETWEEN e.first AND e.last
    WHERE s.phase = 'busy' GROUP BY 1, 2)
SELECT layout, form, batches, round(calm.p[1]::numeric, 2) AS calm_median,
       round(calm.p[2]::numeric, 2) AS calm_p99, round(busy.p[1]::numeric, 2) AS median,
       round(busy.p[2]::numeric, 2) AS p99, round(busy.max::numeric, 1) AS max,
       e.statements, round(e.longest::numeric, 1) AS longest_delete
FROM e JOIN calm USING (layout) LEFT JOIN busy USING (layout)
ORDER BY array_position('{flat_btree,flat_brin,weekly,daily,hash16,hash32}', layout);
