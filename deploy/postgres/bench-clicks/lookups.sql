-- Lookups: one function per layout and form of statement, so that plpgsql keeps a prepared plan of
-- each, and the procedure that times them. What is timed is the server's work, rows read in full;
-- the transfer to the client is the same for all and left out.

-- The usual mix, drawn once and given to every layout: 2% unknown ids, of the rest 90% from the
-- last 24 hours, 9% from the rest of the last week, 1% older.
SELECT setseed(0.5);
CREATE TABLE wanted AS
SELECT batch, pos,
       CASE WHEN r < 0.02 THEN md5('unknown ' || batch || ' ' || pos)
            ELSE click_id(1 + (CASE WHEN r < 0.902 THEN clicks - u * day
                                    WHEN r < 0.9902 THEN clicks - day - u * 6 * day
                                    ELSE clicks - 7 * day - u * (clicks - 7 * day) END - 1)::bigint)
       END AS clickid
FROM (SELECT clicks, clicks / days::float8 AS day FROM settings) s,
     LATERAL (SELECT batch, pos, random() AS r, random() AS u
              FROM generate_series(1, 320) batch, generate_series(1, 1000) pos) draws;
CREATE INDEX ON wanted (batch, pos) INCLUDE (clickid);
VACUUM ANALYZE wanted;

DO $$
DECLARE
    layout text;
    week record;
    steps_any text := '';
    steps_join text := '';
BEGIN
    FOREACH layout IN ARRAY '{flat_btree,flat_brin,daily,hash16,hash32}'::text[] LOOP
        EXECUTE format($f$
            CREATE FUNCTION %I(ids text[]) RETURNS bigint LANGUAGE plpgsql AS $b$
            DECLARE n bigint;
            BEGIN
                SELECT count(c.traffic_log_id) INTO n FROM %I c WHERE c.clickid = ANY (ids);
                RETURN n;
            END $b$ $f$, 'lookup_' || layout || '_any', layout);
        EXECUTE format($f$
            CREATE FUNCTION %I(ids text[]) RETURNS bigint LANGUAGE plpgsql AS $b$
            DECLARE n bigint;
            BEGIN
                SELECT count(c.traffic_log_id) INTO n
                FROM unnest(ids) i(id) JOIN %I c ON c.clickid = i.id;
                RETURN n;
            END $b$ $f$, 'lookup_' || layout || '_join', layout);
    END LOOP;

    -- Weekly, newest first. Bounds instead of partition names, so that a dropped week is skipped.
    FOR week IN SELECT generate_series(date_trunc('week', ends - days * interval '1 day'), ends,
                                       interval '7 days') AS starts
                FROM settings ORDER BY 1 DESC LOOP
        steps_any := steps_any || format($f$
            SELECT count(c.traffic_log_id), array_agg(c.clickid) INTO n, found FROM weekly c
            WHERE c.clickid = ANY (ids) AND c.clicked_at >= %1$L AND c.clicked_at < %2$L;
            total := total + n;
            ids := ARRAY(SELECT unnest(ids) EXCEPT ALL SELECT unnest(found));
            IF cardinality(ids) = 0 THEN RETURN total; END IF; $f$,
            week.starts, week.starts + interval '7 days');
        steps_join := steps_join || format($f$
            SELECT count(c.traffic_log_id), array_agg(i.id) FILTER (WHERE c.clickid IS NULL)
            INTO n, ids
            FROM unnest(ids) i(id) LEFT JOIN weekly c
              ON c.clickid = i.id AND c.clicked_at >= %1$L AND c.clicked_at < %2$L;
            total := total + n;
            IF ids IS NULL THEN RETURN total; END IF; $f$,
            week.starts, week.starts + interval '7 days');
    END LOOP;
    EXECUTE format('CREATE FUNCTION lookup_weekly_any(ids text[]) RETURNS bigint LANGUAGE plpgsql AS '
        '$b$ DECLARE n bigint; total bigint := 0; found text[]; BEGIN %s RETURN total; END $b$', steps_any);
    EXECUTE format('CREATE FUNCTION lookup_weekly_join(ids text[]) RETURNS bigint LANGUAGE plpgsql AS '
        '$b$ DECLARE n bigint; total bigint := 0; BEGIN %s RETURN total; END $b$', steps_join);
END $$;

CREATE UNLOGGED TABLE lookup_sample (
    phase text, layout text, form text, size int, batch int, began timestamptz, ms float8, found bigint
);

-- The signal to an expiry that runs beside the lookups: their plans are made, the timing begins.
CREATE UNLOGGED TABLE start_expiry (please boolean);

-- Each lookup is a transaction of its own: what a partitioned table's locks cost is in the figure.
CREATE PROCEDURE measure_lookups(phase text, layout text, form text, size int, first int, last int)
LANGUAGE plpgsql AS $$
DECLARE
    ids text[];
    t0 timestamptz;
    n bigint;
    batches int[] := '{}';
    began timestamptz[] := '{}';
    times float8[] := '{}';
    founds bigint[] := '{}';
BEGIN
    FOR b IN first - 10 .. last LOOP
        IF b = first AND phase = 'busy' THEN
            INSERT INTO start_expiry VALUES (true);
        END IF;
        SELECT array_agg(w.clickid) INTO ids FROM wanted w
        WHERE w.batch = CASE WHEN b > 0 THEN b ELSE b + 320 END AND w.pos <= size;
        COMMIT;
        t0 := clock_timestamp();
        EXECUTE format('SELECT %I($1)', 'lookup_' || layout || '_' || form) INTO n USING ids;
        COMMIT;
        IF b >= first THEN  -- the ten before are for the plan cache
            batches := batches || b;
            began := began || t0;
            times := times || extract(epoch FROM clock_timestamp() - t0)::float8 * 1000;
            founds := founds || n;
        END IF;
    END LOOP;
    INSERT INTO lookup_sample
    SELECT phase, layout, form, size, t.* FROM unnest(batches, began, times, founds) t;
END $$;

CREATE PROCEDURE warm(layout text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_prewarm(leaf) FROM leaves(layout) leaf;
    PERFORM pg_prewarm(indexrelid) FROM pg_index, leaves(layout) leaf WHERE indrelid = leaf;
END $$;
