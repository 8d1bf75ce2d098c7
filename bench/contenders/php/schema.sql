-- The status quo's tables: no statistics, they are counted when somebody asks.
CREATE SCHEMA php;
CREATE TABLE php.clicks (
    clickid     text COLLATE "C" PRIMARY KEY,
    campaign_id bigint NOT NULL,
    site_id     text NOT NULL,
    source      text NOT NULL,
    clicked_at  timestamptz NOT NULL
);
CREATE TABLE php.conversions (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    clickid     text COLLATE "C" NOT NULL UNIQUE,
    campaign_id bigint NOT NULL,
    site_id     text NOT NULL,
    source      text NOT NULL,
    revenue     numeric(18, 6) NOT NULL,
    currency    text NOT NULL,
    external_id text,
    subid0      text,
    subid1      text,
    subid2      text,
    subid3      text,
    subid4      text,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX conversions_campaign ON php.conversions (campaign_id, created_at);
CREATE TABLE php.postback_log (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now(),
    clickid     text NOT NULL,
    outcome     text NOT NULL,
    raw_query   text NOT NULL,
    address     text NOT NULL,
    user_agent  text NOT NULL
);

-- One round trip: the click, the conversion unless there is one, the log.
CREATE FUNCTION postback(p_clickid text, p_revenue numeric, p_currency text, p_txid text, p_subid0 text,
    p_subid1 text, p_subid2 text, p_subid3 text, p_subid4 text, p_query text, p_address text, p_agent text,
    OUT outcome text, OUT campaign_id bigint, OUT revenue numeric, OUT currency text, OUT created_at text)
LANGUAGE plpgsql AS $$
DECLARE
    stored php.conversions%ROWTYPE;
BEGIN
    INSERT INTO php.conversions (clickid, campaign_id, site_id, source, revenue, currency, external_id, subid0,
                                 subid1, subid2, subid3, subid4)
    SELECT p_clickid, c.campaign_id, c.site_id, c.source, p_revenue, p_currency, nullif(p_txid, ''),
           nullif(p_subid0, ''), nullif(p_subid1, ''), nullif(p_subid2, ''), nullif(p_subid3, ''),
           nullif(p_subid4, '')
      FROM php.clicks c WHERE c.clickid = p_clickid
    ON CONFLICT (clickid) DO NOTHING
    RETURNING * INTO stored;
    IF FOUND THEN
        outcome := 'converted';
    ELSE
        SELECT * INTO stored FROM php.conversions v WHERE v.clickid = p_clickid;
        outcome := CASE WHEN FOUND THEN 'duplicate' ELSE 'click_not_found' END;
    END IF;
    campaign_id := stored.campaign_id;
    revenue := stored.revenue;
    currency := stored.currency;
    created_at := to_char(stored.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS');
    INSERT INTO php.postback_log (clickid, outcome, raw_query, address, user_agent)
    VALUES (p_clickid, outcome, p_query, p_address, p_agent);
END
$$;
