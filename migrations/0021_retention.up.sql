-- Closed months of the log go to the anchor bucket: their events' bytes become objects under Object Lock, and a partition
-- of hashes and search columns takes the place of the one that held them (ADR 0034). So proofs, searches and the uniqueness
-- of ids stay what they were; only the bytes are read from elsewhere, and checked against the leaf hash here.
--
-- No role deletes. audit-writer reads closed months, says what it has put and read back, and asks for the exchange, which
-- this file's functions refuse unless every event is accounted for. The table that was taken out stays, out of reach, until
-- the owner drops it, which needs the objects verified again since.

SET LOCAL ROLE cordon_owner;

-- Where an archived event is: in the object whose first event is archive_first. NULL: the bytes are here.
ALTER TABLE audit.audit_logs ADD COLUMN archive_first bigint, ADD COLUMN archive_offset bigint, ADD COLUMN archive_bytes integer;
ALTER TABLE audit.audit_logs ALTER COLUMN event DROP NOT NULL;
DO $$
DECLARE
    part  regclass;
BEGIN
    FOR part IN SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = 'audit.audit_logs'::regclass LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN event SET NOT NULL', part);
    END LOOP;
END $$;

-- As before; a live month holds the bytes of every event.
CREATE OR REPLACE FUNCTION audit.make_partition(parent regclass, month date) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    base   text := (SELECT c.relname FROM pg_class c WHERE c.oid = parent);
    name   text := base || '_' || to_char(month, 'YYYY_MM');
BEGIN
    IF to_regclass(format('audit.%I', name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE audit.%I (LIKE audit.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name, base);
    IF base = 'audit_logs' THEN
        EXECUTE format('ALTER TABLE audit.%I ALTER COLUMN event SET NOT NULL', name);
    END IF;
    EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', name);
    EXECUTE format('ALTER TABLE audit.%I ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)', base, name,
                   audit.month_floor(month), audit.month_floor((month + interval '1 month')::date));
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_statement', name);
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_row', name);
    RETURN true;
END $$;

CREATE FUNCTION audit.month_of(id uuid) RETURNS date
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT date_trunc('month', to_timestamp(('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0) AT TIME ZONE 'UTC')::date
$$;
GRANT EXECUTE ON FUNCTION audit.month_of(uuid), audit.month_floor(date) TO cordon_audit_definer;

-- A month from the moment that it takes no more events.
CREATE TABLE audit.archive_months (
    month        date PRIMARY KEY CHECK (month = date_trunc('month', month)),
    begun_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    detached_at  timestamptz,           -- from then on the log reads its events from the bucket
    verified_at  timestamptz,           -- when all its objects were last read again since then and found whole
    dropped_at   timestamptz,           -- the table that it had been is gone
    CHECK (detached_at IS NOT NULL OR num_nonnulls(verified_at, dropped_at) = 0),
    CHECK (verified_at IS NOT NULL OR dropped_at IS NULL)
);
-- One object: events of one tenant and month, read back and found to lead to the signed head of that number.
CREATE TABLE audit.archives (
    tenant_id     uuid NOT NULL,
    month         date NOT NULL REFERENCES audit.archive_months,
    first         bigint NOT NULL CHECK (first >= 0),       -- in its name
    last          bigint NOT NULL,
    events        integer NOT NULL CHECK (events > 0),
    bytes         bigint NOT NULL CHECK (bytes > 0),
    sha256        bytea NOT NULL CHECK (octet_length(sha256) = 32),
    number        bigint NOT NULL,
    retain_until  timestamptz NOT NULL,
    is_held       boolean NOT NULL DEFAULT false,           -- has S3 been told of a legal hold?
    stored_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, month, first),
    CHECK (last >= first + events - 1),
    CONSTRAINT six_years CHECK (retain_until >= timezone('UTC', month + interval '1 month') + interval '2192 days')
);
-- An operator's legal hold of the platform's log. Tenants place theirs themselves (app.holds).
CREATE TABLE audit.log_holds (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reason       text NOT NULL CHECK (reason ~ '^[!-~]{1,128}$'),
    placed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    released_at  timestamptz
);
DO $$
DECLARE
    name  text;
BEGIN
    FOREACH name IN ARRAY ARRAY['archive_months', 'archives', 'log_holds'] LOOP
        EXECUTE format('CREATE TRIGGER refuse_statement BEFORE DELETE OR TRUNCATE ON audit.%I FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', name);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_statement', name);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON audit.%I TO cordon_audit_definer USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE (detached_at, verified_at, dropped_at) ON audit.archive_months TO cordon_audit_definer;
GRANT SELECT, INSERT, UPDATE (is_held) ON audit.archives TO cordon_audit_definer;
GRANT SELECT, INSERT (reason), UPDATE (released_at) ON audit.log_holds TO cordon_audit_definer;
GRANT SELECT (kind, session_id, job_id, request_id, archive_first, archive_offset, archive_bytes) ON audit.audit_logs TO cordon_audit_definer;

-- A hold of the tenant's own log, besides those of documents and patients.
ALTER TABLE app.holds ADD COLUMN is_log boolean NOT NULL DEFAULT false;
ALTER TABLE app.holds DROP CONSTRAINT holds_check;
ALTER TABLE app.holds ADD CONSTRAINT holds_check CHECK (num_nonnulls(document_id, subject_id) + is_log::integer = 1);
CREATE POLICY audit_definer_reads ON app.holds FOR SELECT TO cordon_audit_definer USING (is_log);
GRANT SELECT (tenant_id, is_log, released_at) ON app.holds TO cordon_audit_definer;

------------------------------------------------------------------------------------------------- what only the owner can do

-- The table that will take a closed month's place; and the month takes no more events. For functions of cordon_audit_definer.
CREATE FUNCTION audit.open_archive(p_month date) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    live     text := 'audit_logs_' || to_char(p_month, 'YYYY_MM');
    closing  text := 'closing_' || to_char(p_month, 'YYYY_MM');
BEGIN
    EXECUTE format('CREATE TABLE audit.%I (LIKE audit.audit_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES, '
                   'CONSTRAINT is_archived CHECK (event IS NULL AND num_nulls(archive_first, archive_offset, archive_bytes) = 0), '
                   'CONSTRAINT is_of_month CHECK (event_id >= %L AND event_id < %L))', closing,
                   audit.month_floor(p_month), audit.month_floor((p_month + interval '1 month')::date));
    EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', closing);
    EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', closing);
    EXECUTE format('CREATE POLICY archiver ON audit.%I TO cordon_audit_definer USING (true) WITH CHECK (true)', closing);
    EXECUTE format('GRANT SELECT, INSERT ON audit.%I TO cordon_audit_definer', closing);
    EXECUTE format('CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', closing);
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_statement', closing);
    EXECUTE format('CREATE TRIGGER refuse_insert BEFORE INSERT ON audit.%I FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()', live);
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_insert', live);
END $$;

-- The exchange: a moment's lock on the log, and no row is looked at (is_of_month says what the bounds ask).
CREATE FUNCTION audit.swap_archive(p_month date) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    live      text := 'audit_logs_' || to_char(p_month, 'YYYY_MM');
    closing   text := 'closing_' || to_char(p_month, 'YYYY_MM');
    detached  text := 'detached_' || to_char(p_month, 'YYYY_MM');
BEGIN
    EXECUTE format('ALTER TABLE audit.audit_logs DETACH PARTITION audit.%I', live);
    EXECUTE format('ALTER TABLE audit.%I RENAME TO %I', live, detached);
    EXECUTE format('REVOKE ALL ON audit.%I FROM cordon_audit_definer', closing);
    EXECUTE format('DROP POLICY archiver ON audit.%I', closing);
    EXECUTE format('ALTER TABLE audit.%I RENAME TO %I', closing, live);
    EXECUTE format('CREATE TRIGGER refuse_insert BEFORE INSERT ON audit.%I FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()', live);
    EXECUTE format('ALTER TABLE audit.audit_logs ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)', live,
                   audit.month_floor(p_month), audit.month_floor((p_month + interval '1 month')::date));
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_insert', live);
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_row', live);
END $$;
GRANT EXECUTE ON FUNCTION audit.open_archive(date), audit.swap_archive(date) TO cordon_audit_definer;

GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

------------------------------------------------------------------------------------------------- on the record

CREATE FUNCTION audit.on_archive() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record(CASE TG_OP WHEN 'INSERT' THEN 'archive.store' ELSE 'archive.hold' END, '00000000-0000-0000-0000-000000000000', NEW.tenant_id, '{}',
        jsonb_build_object('month', to_char(NEW.month, 'YYYY-MM'), 'first', NEW.first) || CASE TG_OP
            WHEN 'INSERT' THEN jsonb_build_object('last', NEW.last, 'events', NEW.events, 'sha256', encode(NEW.sha256, 'hex'), 'number', NEW.number)
            ELSE jsonb_build_object('held', NEW.is_held) END);
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_archive_month() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.detached_at IS NULL AND NEW.detached_at IS NOT NULL THEN
        PERFORM audit.record('archive.detach', '00000000-0000-0000-0000-000000000000', NULL, '{}', jsonb_build_object('month', to_char(NEW.month, 'YYYY-MM'),
            'events', (SELECT coalesce(sum(a.events), 0) FROM audit.archives a WHERE a.month = NEW.month)));
    END IF;
    IF OLD.dropped_at IS NULL AND NEW.dropped_at IS NOT NULL THEN
        PERFORM audit.record('archive.drop', '00000000-0000-0000-0000-000000000000', NULL, '{}', jsonb_build_object('month', to_char(NEW.month, 'YYYY-MM')));
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION audit.on_hold() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record(CASE TG_OP WHEN 'INSERT' THEN 'hold.place' ELSE 'hold.release' END, NEW.tenant_id, NEW.id,
        array_remove(ARRAY[NEW.document_id], NULL),
        jsonb_build_object('subject_id', NEW.subject_id, 'log', nullif(NEW.is_log, false), 'reason', NEW.reason_code, 'reference', nullif(NEW.reference, '')));
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_log_hold() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record(CASE TG_OP WHEN 'INSERT' THEN 'hold.place' ELSE 'hold.release' END, '00000000-0000-0000-0000-000000000000', NULL, '{}',
        jsonb_build_object('log', true, 'reason', NEW.reason));
    RETURN NULL;
END $$;
GRANT EXECUTE ON FUNCTION audit.on_archive(), audit.on_archive_month(), audit.on_log_hold() TO cordon_owner;

------------------------------------------------------------------------------------------------- what audit-writer may ask

CREATE FUNCTION audit.held_logs() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.tenant_id FROM app.holds h WHERE h.is_log AND h.released_at IS NULL
    UNION SELECT '00000000-0000-0000-0000-000000000000' FROM audit.log_holds h WHERE h.released_at IS NULL
$$;

-- Months that ended more than so many ago (at least one) and are not archived, oldest first. None while a record of that
-- time waits in the outbox. Held: somebody's events of it are to stay where they are.
CREATE FUNCTION audit.archive_due(p_live_months integer) RETURNS TABLE (month date, is_held boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.month, EXISTS (SELECT FROM audit.held_logs() h (tenant_id) CROSS JOIN LATERAL (SELECT FROM audit.audit_logs l
            WHERE l.tenant_id = h.tenant_id AND l.event_id >= audit.month_floor(d.month)
              AND l.event_id < audit.month_floor((d.month + interval '1 month')::date) LIMIT 1) has)
        -- substring gives nothing for another's name: PostgreSQL may look at names before it knows whose child has them
        FROM (SELECT to_date(substring(c.relname FROM '\d{4}_(?:0[1-9]|1[0-2])$'), 'YYYY_MM') AS month
              FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit.audit_logs'::regclass) d
        WHERE d.month < date_trunc('month', timezone('UTC', clock_timestamp())) - make_interval(months => greatest(p_live_months, 1))
          AND NOT EXISTS (SELECT FROM audit.archive_months a WHERE a.month = d.month AND a.detached_at IS NOT NULL)
          AND NOT EXISTS (SELECT FROM audit.audit_outbox o WHERE o.event_id < audit.month_floor((d.month + interval '1 month')::date))
        ORDER BY d.month
$$;

-- One archiver at a time, until the transaction ends.
CREATE FUNCTION audit.archive_lock(p_month date, p_live_months integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_try_advisory_xact_lock(hashtextextended('audit.archives', 0)) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: another archiver is at work' USING ERRCODE = '40001';
    END IF;
    PERFORM FROM audit.archive_due(p_live_months) d WHERE d.month = p_month AND NOT d.is_held;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit: % is not to be archived', p_month USING ERRCODE = '42501';
    END IF;
END $$;

-- Close a month. Where archiving it has come to: behind which event of which tenant it goes on.
CREATE FUNCTION audit.archive_begin(p_month date, p_live_months integer) RETURNS TABLE (tenant_id uuid, last bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM audit.archive_lock(p_month, p_live_months);
    INSERT INTO audit.archive_months (month) VALUES (p_month) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM audit.open_archive(p_month);
    END IF;
    RETURN QUERY SELECT a.tenant_id, a.last FROM audit.archives a WHERE a.month = p_month ORDER BY a.tenant_id DESC, a.last DESC LIMIT 1;
END $$;

-- Events of a closed month, behind this one.
CREATE FUNCTION audit.archive_rows(p_month date, p_tenant_id uuid, p_after bigint, p_n integer)
RETURNS TABLE (tenant_id uuid, seq bigint, event bytea, leaf_hash bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT l.tenant_id, l.seq, l.event, l.leaf_hash FROM audit.audit_logs l
        WHERE l.event_id >= audit.month_floor(p_month) AND l.event_id < audit.month_floor((p_month + interval '1 month')::date)
          AND (l.tenant_id, l.seq) > (p_tenant_id, p_after)
          AND EXISTS (SELECT FROM audit.archive_months m WHERE m.month = p_month AND m.detached_at IS NULL)
        ORDER BY l.tenant_id, l.seq LIMIT least(p_n, 256);
END $$;

-- The first signed head in the bucket that covers this event of this log.
CREATE FUNCTION audit.anchored_head(p_tenant_id uuid, p_seq bigint) RETURNS TABLE (number bigint, size bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.number, c.size FROM audit.checkpoints c WHERE c.tenant_id = p_tenant_id AND c.size > p_seq
        AND EXISTS (SELECT FROM audit.anchors a WHERE a.number = c.number) ORDER BY c.size LIMIT 1
$$;

-- Any log's hashes, as audit.tree_hashes: they show nothing of the events.
CREATE FUNCTION audit.hashes_of(p_tenant_id uuid, p_level integer, p_first bigint, p_count integer) RETURNS TABLE (hash bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_level = 0 THEN
        RETURN QUERY SELECT l.leaf_hash FROM audit.audit_logs l
            WHERE l.tenant_id = p_tenant_id AND l.seq >= p_first AND l.seq < p_first + p_count ORDER BY l.seq;
    ELSE
        RETURN QUERY SELECT n.hash FROM audit.tree_nodes n
            WHERE n.tenant_id = p_tenant_id AND n.level = p_level::smallint AND n.index >= p_first AND n.index < p_first + p_count ORDER BY n.index;
    END IF;
END $$;

-- This object is in the bucket and was read back; its events' rows, without bytes, stand ready to take their place.
CREATE FUNCTION audit.archive_put(p_tenant_id uuid, p_month date, p_live_months integer, seqs bigint[], offsets bigint[], lengths bigint[],
                                  p_bytes bigint, p_sha256 bytea, p_number bigint, p_retain_until timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n       integer := cardinality(seqs);
    moved   integer;
    kept    text := (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                     WHERE a.attrelid = 'audit.audit_logs'::regclass AND a.attnum > 0 AND NOT a.attisdropped
                       AND a.attname NOT IN ('event', 'ticket_digest', 'archive_first', 'archive_offset', 'archive_bytes'));
BEGIN
    PERFORM audit.archive_lock(p_month, p_live_months);
    IF ((cardinality(offsets), cardinality(lengths)) = (n, n) AND n > 0
        AND EXISTS (SELECT FROM audit.anchored_head(p_tenant_id, seqs[n]) h WHERE h.number = p_number)) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: not an object of a signed log' USING ERRCODE = '22023';
    END IF;
    INSERT INTO audit.archives (tenant_id, month, first, last, events, bytes, sha256, number, retain_until)
        VALUES (p_tenant_id, p_month, seqs[1], seqs[n], n, p_bytes, p_sha256, p_number, p_retain_until) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN           -- another archiver was here
        RETURN;
    END IF;
    EXECUTE format('INSERT INTO audit.%I (%s, archive_first, archive_offset, archive_bytes) SELECT %s, $4, x.place, x.length '
                   'FROM audit.audit_logs l JOIN unnest($1, $2, $3) AS x (at, place, length) ON x.at = l.seq '
                   'WHERE l.tenant_id = $5 AND l.event_id >= %L AND l.event_id < %L AND octet_length(l.event) = x.length',
                   'closing_' || to_char(p_month, 'YYYY_MM'), kept, kept, audit.month_floor(p_month), audit.month_floor((p_month + interval '1 month')::date))
        USING seqs, offsets, lengths, seqs[1], p_tenant_id;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> n THEN
        RAISE EXCEPTION 'audit: % of % events are in that month', moved, n USING ERRCODE = '22023';
    END IF;
END $$;

-- Take the month's events out of the log. Refuses unless each is in an object that was read back, with the same hash and
-- length; nothing is deleted by it.
CREATE FUNCTION audit.archive_detach(p_month date, p_live_months integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    differ  bigint;
    put     bigint;
BEGIN
    PERFORM audit.archive_lock(p_month, p_live_months);
    EXECUTE format('SELECT count(*) FILTER (WHERE (l.tenant_id, l.seq, l.leaf_hash, l.content_digest, octet_length(l.event)) '
                   'IS DISTINCT FROM (c.tenant_id, c.seq, c.leaf_hash, c.content_digest, c.archive_bytes)), count(c.event_id) '
                   'FROM (SELECT * FROM audit.%I) c FULL JOIN (SELECT a.event_id, a.tenant_id, a.seq, a.leaf_hash, a.content_digest, a.event '
                   'FROM audit.audit_logs a WHERE a.event_id >= %L AND a.event_id < %L) l ON l.event_id = c.event_id',
                   'closing_' || to_char(p_month, 'YYYY_MM'), audit.month_floor(p_month), audit.month_floor((p_month + interval '1 month')::date))
        INTO differ, put;
    IF (differ = 0 AND put = (SELECT coalesce(sum(a.events), 0) FROM audit.archives a WHERE a.month = p_month)) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: % events of % are not in the bucket', differ, p_month USING ERRCODE = '55000';
    END IF;
    UPDATE audit.archive_months m SET detached_at = clock_timestamp(), verified_at = CASE WHEN put = 0 THEN clock_timestamp() END
        WHERE m.month = p_month AND m.detached_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit: % was not begun', p_month USING ERRCODE = '55000';
    END IF;
    PERFORM audit.swap_archive(p_month);
END $$;

-- Objects behind this one, in the order of months; p_is_changed: only those whose hold S3 has not been told of as it is now.
CREATE FUNCTION audit.archive_objects(p_month date, p_tenant_id uuid, p_first bigint, p_is_changed boolean, p_n integer)
RETURNS TABLE (month date, tenant_id uuid, first bigint, last bigint, sha256 bytea, bytes bigint, is_to_be_held boolean, is_detached boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.month, a.tenant_id, a.first, a.last, a.sha256, a.bytes, h.is_held, m.detached_at IS NOT NULL
        FROM audit.archives a JOIN audit.archive_months m ON m.month = a.month
        CROSS JOIN LATERAL (SELECT a.tenant_id IN (SELECT audit.held_logs()) AS is_held) h
        WHERE (a.month, a.tenant_id, a.first) > (p_month, p_tenant_id, p_first) AND (NOT p_is_changed OR h.is_held <> a.is_held)
        ORDER BY a.month, a.tenant_id, a.first LIMIT least(p_n, 256)
$$;

-- What an object must hold, line by line.
CREATE FUNCTION audit.archive_leaves(p_month date, p_tenant_id uuid, p_first bigint, p_last bigint)
RETURNS TABLE (seq bigint, leaf_hash bytea, place bigint, bytes integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.seq, l.leaf_hash, l.archive_offset, l.archive_bytes FROM audit.audit_logs l
        WHERE l.tenant_id = p_tenant_id AND l.seq BETWEEN p_first AND p_last AND l.archive_first = p_first
          AND l.event_id >= audit.month_floor(p_month) AND l.event_id < audit.month_floor((p_month + interval '1 month')::date) ORDER BY l.seq
$$;

CREATE FUNCTION audit.archive_held(p_month date, p_tenant_id uuid, p_first bigint, p_is_held boolean) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE audit.archives a SET is_held = p_is_held WHERE a.month = p_month AND a.tenant_id = p_tenant_id AND a.first = p_first
$$;

CREATE FUNCTION audit.archive_verified(p_month date) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE audit.archive_months m SET verified_at = clock_timestamp() WHERE m.month = p_month AND m.detached_at IS NOT NULL
$$;

-- Of an archived event the hash stands for the bytes, which the check of the objects compares with it.
CREATE OR REPLACE FUNCTION audit.leaves_now(p_tenant_id uuid, p_first bigint, p_count integer) RETURNS TABLE (seq bigint, leaf bytea, is_as_stored boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.seq, coalesce(h.now, l.leaf_hash), CASE WHEN l.event IS NOT NULL THEN l.leaf_hash = h.now
            ELSE EXISTS (SELECT FROM audit.archives a WHERE a.tenant_id = l.tenant_id AND a.month = audit.month_of(l.event_id) AND a.first = l.archive_first) END
        FROM audit.audit_logs l CROSS JOIN LATERAL (SELECT sha256('\x00'::bytea || l.event) AS now) h
        WHERE l.tenant_id = p_tenant_id AND l.seq >= p_first AND l.seq < p_first + least(p_count, 4096) ORDER BY l.seq
$$;

GRANT EXECUTE ON FUNCTION audit.archive_due(integer), audit.archive_begin(date, integer), audit.archive_rows(date, uuid, bigint, integer),
    audit.anchored_head(uuid, bigint), audit.hashes_of(uuid, integer, bigint, integer),
    audit.archive_put(uuid, date, integer, bigint[], bigint[], bigint[], bigint, bytea, bigint, timestamptz), audit.archive_detach(date, integer),
    audit.archive_objects(date, uuid, bigint, boolean, integer), audit.archive_leaves(date, uuid, bigint, bigint),
    audit.archive_held(date, uuid, bigint, boolean), audit.archive_verified(date) TO cordon_audit;

------------------------------------------------------------------------------------------------- reading what is archived

-- Where those of these events of the ticket's tenant are whose bytes are not here, and what they must hash to.
CREATE FUNCTION audit.archived_events(p_seqs bigint[])
RETURNS TABLE (seq bigint, month text, first bigint, place bigint, bytes integer, leaf_hash bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    home  uuid := authz.tenant();
BEGIN
    IF home IS NULL OR (authz.may('audit:read') OR authz.may('query') OR authz.may('erasures:manage') OR authz.may('job:evidence')) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: the log is for those who may read it' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT l.seq, to_char(audit.month_of(l.event_id), 'YYYY-MM'), l.archive_first, l.archive_offset, l.archive_bytes, l.leaf_hash
        FROM audit.audit_logs l WHERE l.tenant_id = home AND l.seq = ANY (p_seqs) AND l.event IS NULL;
END $$;
GRANT EXECUTE ON FUNCTION audit.archived_events(bigint[]) TO cordon_audit_reader, cordon_ingest;

------------------------------------------------------------------------------------------------- an operator's word

-- cordon-migrate hold-audit, release-audit: of the platform's log. False: nothing was held.
CREATE FUNCTION audit.hold_log(p_reason text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO audit.log_holds (reason) VALUES (audit.code(p_reason))
$$;
CREATE FUNCTION audit.release_log() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE audit.log_holds h SET released_at = clock_timestamp() WHERE h.released_at IS NULL;
    RETURN FOUND;
END $$;

-- May the table that a month had been be dropped? Only when all its objects were found whole since it was taken out.
CREATE FUNCTION audit.archive_drop(p_month date) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM audit.archives a WHERE a.month = p_month AND a.tenant_id IN (SELECT audit.held_logs());
    IF FOUND THEN
        RAISE EXCEPTION 'audit: % is under a legal hold', p_month USING ERRCODE = 'CH001';
    END IF;
    UPDATE audit.archive_months m SET dropped_at = clock_timestamp()
        WHERE m.month = p_month AND m.dropped_at IS NULL AND m.verified_at >= m.detached_at;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit: the objects of % were not verified since it was detached', p_month USING ERRCODE = '55000';
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION audit.hold_log(text), audit.release_log(), audit.archive_drop(date) TO cordon_owner;
RESET ROLE;

------------------------------------------------------------------------------------------------- holding a tenant's log

SET LOCAL ROLE cordon_keys_definer;

DROP FUNCTION keys.place_hold(uuid, uuid, uuid, text, text);

-- Of a document, a patient or the log of the ticket's tenant. 23503: there is no such.
CREATE FUNCTION keys.place_hold(hold_id uuid, document_id uuid, subject_id uuid, is_log boolean, reason_code text, reference text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := keys.home_for('holds:manage');
BEGIN
    IF place_hold.document_id IS NOT NULL THEN
        PERFORM FROM app.documents d WHERE d.tenant_id = home AND d.id = place_hold.document_id FOR NO KEY UPDATE;
    ELSIF place_hold.subject_id IS NOT NULL THEN
        PERFORM FROM app.subjects s WHERE s.tenant_id = home AND s.id = place_hold.subject_id FOR NO KEY UPDATE;
    END IF;
    IF NOT FOUND AND place_hold.is_log IS NOT TRUE THEN
        RAISE EXCEPTION 'nothing to hold' USING ERRCODE = '23503';
    END IF;
    INSERT INTO app.holds (tenant_id, id, document_id, subject_id, is_log, reason_code, reference, placed_by)
        VALUES (home, place_hold.hold_id, place_hold.document_id, place_hold.subject_id, place_hold.is_log, place_hold.reason_code,
                place_hold.reference, authz.user_id());
END $$;
GRANT EXECUTE ON FUNCTION keys.place_hold(uuid, uuid, uuid, boolean, text, text) TO cordon_ingest;
RESET ROLE;

SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OF is_held ON audit.archives FOR EACH ROW EXECUTE FUNCTION audit.on_archive();
CREATE TRIGGER audit AFTER UPDATE ON audit.archive_months FOR EACH ROW EXECUTE FUNCTION audit.on_archive_month();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON audit.log_holds FOR EACH ROW EXECUTE FUNCTION audit.on_log_hold();
ALTER TABLE audit.archives ENABLE ALWAYS TRIGGER audit;
ALTER TABLE audit.archive_months ENABLE ALWAYS TRIGGER audit;
ALTER TABLE audit.log_holds ENABLE ALWAYS TRIGGER audit;

-- cordon-migrate drop-archived: what only the owner can do, and only once it may.
CREATE FUNCTION audit.drop_archived(p_month date) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.archive_drop(p_month);
    EXECUTE format('DROP TABLE audit.%I', 'detached_' || to_char(p_month, 'YYYY_MM'));
END $$;
RESET ROLE;
