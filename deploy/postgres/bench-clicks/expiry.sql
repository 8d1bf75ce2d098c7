-- Expiry: by batches of deletes, each its own transaction, and by dropping partitions.
CREATE UNLOGGED TABLE expiry_sample (
    phase text, layout text, form text, round int, began timestamptz, ms float8, gone bigint
);
CREATE UNLOGGED TABLE stop_expiry (please boolean);

CREATE PROCEDURE await_start(phase text) LANGUAGE plpgsql AS $$
BEGIN
    WHILE phase = 'busy' AND NOT EXISTS (SELECT FROM start_expiry) LOOP
        PERFORM pg_sleep(0.005);
        COMMIT;
    END LOOP;
END $$;

-- The end of the half day that the data begins with, and as many days later.
CREATE FUNCTION expired_before(days_later int) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT date_trunc('day', ends - (days - 1 - days_later) * interval '1 day') FROM settings
$$;

-- One statement for each form. $1 cutoff, $2 batch size, $3 where the batch before ended.
--   from   through the btree, starting where the batch before ended
--   naive  through the btree, from its lower end every time
--   brin   no order to rely on: every batch builds the bitmap again
CREATE FUNCTION delete_statement(leaf regclass, form text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format(
        'WITH gone AS (DELETE FROM %1$s WHERE ctid = ANY (ARRAY('
        'SELECT ctid FROM %1$s WHERE clicked_at < $1 %2$s LIMIT $2)) RETURNING clicked_at) '
        'SELECT count(*), max(clicked_at) FROM gone',
        leaf,
        CASE form WHEN 'from' THEN 'AND clicked_at >= $3 ORDER BY clicked_at'
                  WHEN 'naive' THEN 'AND $3 IS NOT NULL ORDER BY clicked_at'
                  WHEN 'brin' THEN 'AND $3 IS NOT NULL' END)
$$;

CREATE PROCEDURE measure_deletes(phase text, layout text, form text, round int, cutoff timestamptz, batch int)
LANGUAGE plpgsql AS $$
DECLARE
    leaf regclass;
    statement text;
    n bigint;
    reached timestamptz;
    t0 timestamptz;
BEGIN
    CALL await_start(phase);
    IF form = 'brin' THEN  -- or the planner may prefer a sequential scan
        SET enable_seqscan = off;
    END IF;
    FOR leaf IN SELECT leaves(layout) LOOP
        statement := delete_statement(leaf, form);
        reached := '-infinity';
        LOOP
            t0 := clock_timestamp();
            EXECUTE statement INTO n, reached USING cutoff, batch, coalesce(reached, '-infinity');
            COMMIT;
            INSERT INTO expiry_sample
            VALUES (phase, layout, form, round, t0, extract(epoch FROM clock_timestamp() - t0)::float8 * 1000, n);
            EXIT WHEN n < batch;
            IF EXISTS (SELECT FROM stop_expiry) THEN
                RESET enable_seqscan;
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
    RESET enable_seqscan;
END $$;

-- Drops the partitions that end at the cutoff or before, with a pause between two, in milliseconds.
CREATE PROCEDURE measure_drops(phase text, layout text, round int, cutoff timestamptz, pause int)
LANGUAGE plpgsql AS $$
DECLARE
    leaf regclass;
    t0 timestamptz;
    ends timestamptz;
BEGIN
    CALL await_start(phase);
    FOR leaf IN SELECT l FROM leaves(layout) l ORDER BY l::text LOOP
        ends := substring(pg_get_expr((SELECT relpartbound FROM pg_class WHERE oid = leaf), leaf)
                          FROM $r$TO \('([^']+)'\)$r$)::timestamptz;
        CONTINUE WHEN ends > cutoff;
        t0 := clock_timestamp();
        EXECUTE format('DROP TABLE %s', leaf);
        COMMIT;
        INSERT INTO expiry_sample
        VALUES (phase, layout, 'drop', round, t0, extract(epoch FROM clock_timestamp() - t0)::float8 * 1000, NULL);
        COMMIT;
        PERFORM pg_sleep(pause / 1000.0);
        EXIT WHEN EXISTS (SELECT FROM stop_expiry);
    END LOOP;
END $$;

CREATE UNLOGGED TABLE vacuum_sample (layout text, round int, ms float8, bytes numeric);
