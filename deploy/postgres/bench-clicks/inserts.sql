-- Inserts of new clicks in batches of 1,000 from nine arrays, each its own transaction.
--
-- The promise is "the first click with an id wins". A primary key on clickid holds it by itself;
-- where the key can't, the statement has to look for the id in every partition first
-- (form "guarded"), and still doesn't hold against two writers at once.
DO $$
DECLARE
    layout text;
    form text;
    guard text;
BEGIN
    FOR layout, form, guard IN VALUES
        ('flat_btree', 'plain', ''), ('flat_brin', 'plain', ''), ('hash16', 'plain', ''),
        ('hash32', 'plain', ''), ('weekly', 'plain', ''), ('daily', 'plain', ''),
        ('weekly', 'guarded', 'WHERE NOT EXISTS (SELECT FROM weekly c WHERE c.clickid = u.clickid)'),
        ('daily', 'guarded', 'WHERE NOT EXISTS (SELECT FROM daily c WHERE c.clickid = u.clickid)')
    LOOP
        EXECUTE format($f$
            CREATE FUNCTION %I(a bigint[], b timestamptz[], c bigint[], d int[], e text[],
                               f text[], g text[], h text[], i text[])
            RETURNS bigint LANGUAGE plpgsql AS $b$
            DECLARE n bigint;
            BEGIN
                INSERT INTO %I
                SELECT u.* FROM unnest(a, b, c, d, e, f, g, h, i)
                    u(campaign_id, clicked_at, kafka_offset, kafka_partition, clickid,
                      site_id, source, publisher_id, traffic_log_id) %s
                ON CONFLICT DO NOTHING;
                GET DIAGNOSTICS n = ROW_COUNT;
                RETURN n;
            END $b$ $f$, 'insert_' || layout || '_' || form, layout, guard);
    END LOOP;
END $$;

CREATE UNLOGGED TABLE insert_sample (
    phase text, layout text, form text, round int, clicks bigint, ms float8, wal numeric
);
-- How many clicks a layout has received after the first filling.
CREATE UNLOGGED TABLE inserted AS
SELECT unnest('{flat_btree,flat_brin,weekly,daily,hash16,hash32}'::text[]) AS layout, 0::bigint AS n;

CREATE PROCEDURE measure_inserts(in_phase text, in_layout text, form text, round int, clicks bigint)
LANGUAGE plpgsql AS $$
DECLARE
    a bigint[]; b timestamptz[]; c bigint[]; d int[]; e text[]; f text[]; g text[]; h text[]; i text[];
    first bigint;
    t0 timestamptz;
    n bigint;
    done bigint := 0;
    ms float8 := 0;
    lsn pg_lsn;
    wal numeric := 0;
BEGIN
    SELECT s.clicks + x.n INTO first FROM settings s, inserted x WHERE x.layout = in_layout;
    WHILE done < clicks LOOP
        SELECT array_agg(m.campaign_id), array_agg(m.clicked_at), array_agg(m.kafka_offset),
               array_agg(m.kafka_partition), array_agg(m.clickid), array_agg(m.site_id),
               array_agg(m.source), array_agg(m.publisher_id), array_agg(m.traffic_log_id)
        INTO a, b, c, d, e, f, g, h, i
        FROM make_clicks(first + done + 1, first + done + 1000) m;
        COMMIT;
        lsn := pg_current_wal_insert_lsn();
        t0 := clock_timestamp();
        EXECUTE format('SELECT %I($1, $2, $3, $4, $5, $6, $7, $8, $9)', 'insert_' || in_layout || '_' || form)
        INTO n USING a, b, c, d, e, f, g, h, i;
        COMMIT;
        ms := ms + extract(epoch FROM clock_timestamp() - t0)::float8 * 1000;
        wal := wal + (pg_current_wal_insert_lsn() - lsn);
        IF n <> 1000 THEN
            RAISE EXCEPTION 'layout % took % of 1000 new clicks', in_layout, n;
        END IF;
        done := done + 1000;
    END LOOP;
    UPDATE inserted x SET n = x.n + done WHERE x.layout = in_layout;
    INSERT INTO insert_sample VALUES (in_phase, in_layout, form, round, done, ms, wal);
END $$;
