-- The audit log: what happened to whose data, by whom, append-only for everybody.
--
-- One Merkle tree per tenant (RFC 6962 hashing; the nil tenant holds what belongs to none). A row carries the event as
-- canonical JSON, which is what is hashed and exported; the other columns repeat parts of it for searching and for
-- keys.open(). cordon_audit may INSERT rows and move heads through audit.advance_heads(); nobody may UPDATE, DELETE or
-- TRUNCATE, and triggers refuse it even to the owner. Rows made by triggers on other tables come through audit_outbox (0007).

CREATE SCHEMA audit AUTHORIZATION cordon_owner;

SET LOCAL ROLE cordon_owner;
GRANT USAGE ON SCHEMA audit TO cordon_audit_definer, cordon_keys_definer, cordon_audit, cordon_audit_reader;

------------------------------------------------------------------------------------------------- tables

-- Partitions are months of event_id, which is a UUIDv7. There is no default partition: an id from a month that nobody
-- made is refused, and a row that ended up in a default one would block making its month.
CREATE TABLE audit.audit_logs (
    event_id        uuid NOT NULL,
    tenant_id       uuid NOT NULL,          -- nil: no tenant
    seq             bigint NOT NULL CHECK (seq >= 0),       -- leaf index in the tenant's tree, without gaps
    occurred_at     timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,   -- later than occurred_at for what came through the outbox
    kind            text NOT NULL CHECK (kind IN ('mutation', 'disclosure', 'denial', 'session', 'system')),
    action          text NOT NULL CHECK (action ~ '^[a-z][a-z_.]{2,63}$'),
    outcome         text NOT NULL CHECK (outcome IN ('success', 'denied', 'failure')),
    actor_id        uuid,
    session_id      uuid,
    job_id          uuid,
    request_id      uuid,
    resource_id     uuid,
    document_ids    uuid[] NOT NULL DEFAULT '{}',
    ticket_digest   bytea CHECK (octet_length(ticket_digest) = 32),     -- SHA-256 of the ticket; not part of the event
    content_digest  bytea NOT NULL CHECK (octet_length(content_digest) = 32),   -- of what the caller sent and under which ticket: tells a repeat from a conflict
    event           bytea NOT NULL CHECK (octet_length(event) BETWEEN 2 AND 262144),
    leaf_hash       bytea NOT NULL,
    PRIMARY KEY (event_id),
    UNIQUE (tenant_id, seq, event_id),
    CONSTRAINT leaf_is_hash_of_event CHECK (leaf_hash = sha256('\x00'::bytea || event))
) PARTITION BY RANGE (event_id);

-- The tree's size and its compact range: the roots of the perfect subtrees that size's binary digits name, biggest first.
CREATE TABLE audit.audit_heads (
    tenant_id   uuid PRIMARY KEY,
    size        bigint NOT NULL DEFAULT 0 CHECK (size >= 0),
    range       bytea NOT NULL DEFAULT '\x',
    root        bytea NOT NULL DEFAULT sha256('\x') CHECK (octet_length(root) = 32),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT range_fits_size CHECK (octet_length(range) = 32 * bit_count(size::bit(64)))
);

------------------------------------------------------------------------------------------------- append-only

CREATE FUNCTION audit.refuse_change() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'audit: % of %.% is never allowed', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = '42501';
END $$;

-- Heads are audit.advance_heads()'s to move, whoever else may say UPDATE; and they only grow.
CREATE FUNCTION audit.check_head_writer() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user <> 'cordon_audit_definer' THEN
        RAISE EXCEPTION 'audit: % of %.% is never allowed', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = '42501';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION audit.check_head_grows() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.tenant_id = OLD.tenant_id AND NEW.size > OLD.size) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: a head only grows' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END $$;

-- Row triggers reach every partition, also those made later; statement triggers do not, see audit.make_partitions().
CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON audit.audit_logs FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_statement BEFORE DELETE OR TRUNCATE ON audit.audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER head_writer BEFORE INSERT OR UPDATE ON audit.audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION audit.check_head_writer();
CREATE TRIGGER head_grows BEFORE UPDATE ON audit.audit_heads FOR EACH ROW EXECUTE FUNCTION audit.check_head_grows();
ALTER TABLE audit.audit_logs ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE audit.audit_logs ENABLE ALWAYS TRIGGER refuse_statement;
ALTER TABLE audit.audit_heads ENABLE ALWAYS TRIGGER refuse_statement;
ALTER TABLE audit.audit_heads ENABLE ALWAYS TRIGGER head_writer;
ALTER TABLE audit.audit_heads ENABLE ALWAYS TRIGGER head_grows;

ALTER TABLE audit.audit_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit.audit_logs FORCE ROW LEVEL SECURITY;
CREATE POLICY writer_appends ON audit.audit_logs FOR INSERT TO cordon_audit WITH CHECK (true);
CREATE POLICY definer_reads ON audit.audit_logs FOR SELECT TO cordon_audit_definer, cordon_keys_definer USING (true);
CREATE POLICY reader_reads ON audit.audit_logs FOR SELECT TO cordon_audit_reader
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('audit:read')));
GRANT INSERT ON audit.audit_logs TO cordon_audit;
GRANT SELECT (event_id, tenant_id, seq, content_digest, action, outcome, resource_id, ticket_digest) ON audit.audit_logs TO cordon_audit_definer;
GRANT SELECT (event_id, tenant_id, recorded_at, kind, outcome, document_ids, ticket_digest) ON audit.audit_logs TO cordon_keys_definer;
GRANT SELECT (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, actor_id, session_id, job_id, request_id,
              resource_id, document_ids, event, leaf_hash) ON audit.audit_logs TO cordon_audit_reader;

ALTER TABLE audit.audit_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit.audit_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON audit.audit_heads TO cordon_audit_definer USING (true) WITH CHECK (true);
CREATE POLICY reader_reads ON audit.audit_heads FOR SELECT TO cordon_audit_reader
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('audit:read')));
GRANT SELECT, INSERT (tenant_id), UPDATE (size, range, root, updated_at) ON audit.audit_heads TO cordon_audit_definer;
GRANT SELECT (tenant_id, size, root, updated_at) ON audit.audit_heads TO cordon_audit_reader;

------------------------------------------------------------------------------------------------- partitions

-- The smallest UUIDv7 of a month, without its version: bounds need not be valid ids.
CREATE FUNCTION audit.month_floor(month date) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (lpad(to_hex((extract(epoch FROM month) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Make the partitions that are missing up to three months ahead; returns how many. Continues after the newest one, so
-- months during which nothing ran exist too: the outbox may hold their events. This one definer function belongs to
-- the tables' owner, as only the owner can make partitions; it takes no argument and touches no row.
CREATE FUNCTION audit.make_partitions() RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    this_month  date := date_trunc('month', timezone('UTC', clock_timestamp()));
    month       date;
    name        text;
    made        integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit.make_partitions', 0));
    SELECT max(to_date(right(c.relname, 7), 'YYYY_MM')) + interval '1 month' INTO month
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit.audit_logs'::regclass;
    month := coalesce(month, this_month - interval '1 month');
    WHILE month <= this_month + interval '3 months' LOOP
        name := 'audit_logs_' || to_char(month, 'YYYY_MM');
        -- attached afterwards: CREATE ... PARTITION OF would lock the whole log
        EXECUTE format('CREATE TABLE audit.%I (LIKE audit.audit_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', name);       -- and no policy: nobody reaches it by its own name
        EXECUTE format('CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', name);
        EXECUTE format('ALTER TABLE audit.audit_logs ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)', name,
                       audit.month_floor(month), audit.month_floor((month + interval '1 month')::date));
        EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_statement', name);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_row', name);
        month := month + interval '1 month';
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
GRANT EXECUTE ON FUNCTION audit.make_partitions() TO cordon_audit;
SELECT audit.make_partitions();

GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;

------------------------------------------------------------------------------------------------- what audit-writer may ask

SET LOCAL ROLE cordon_audit_definer;

-- Whom each ticket stands for, in the order given; tenant nil for the platform's people. One that is not good has its
-- reason in `refused` and nothing else, so that it fails its own call and not the batch.
CREATE FUNCTION audit.claims(tickets text[])
RETURNS TABLE (ordinal integer, tenant_id uuid, user_id uuid, session_id uuid, job_id uuid, refused text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims;
BEGIN
    FOR i IN 1 .. cardinality(tickets) LOOP
        ordinal := i;
        tenant_id := NULL;
        user_id := NULL;
        session_id := NULL;
        job_id := NULL;
        refused := NULL;
        BEGIN
            c := authz.check(tickets[i]);
            tenant_id := coalesce(c.tenant_id, '00000000-0000-0000-0000-000000000000'::uuid);
            user_id := c.user_id;
            session_id := c.session_id;
            job_id := c.job_id;
        EXCEPTION WHEN invalid_authorization_specification THEN
            refused := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END $$;

-- Lock these tenants' heads until the transaction ends, in tenant order so that two writers never wait for each other
-- in a ring. Makes the heads that are missing. locked_at, read after the last lock, is the batch's recorded_at: a later
-- row of a tree never has an earlier time while the clock only goes forward.
CREATE FUNCTION audit.lock_heads(tenants uuid[])
RETURNS TABLE (tenant_id uuid, size bigint, range bytea, root bytea, locked_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO audit.audit_heads (tenant_id) SELECT DISTINCT t FROM unnest(tenants) t ORDER BY t ON CONFLICT DO NOTHING;
    PERFORM FROM audit.audit_heads h WHERE h.tenant_id = ANY (tenants) ORDER BY h.tenant_id FOR UPDATE;
    RETURN QUERY SELECT h.tenant_id, h.size, h.range, h.root, clock_timestamp() FROM audit.audit_heads h
        WHERE h.tenant_id = ANY (tenants) ORDER BY h.tenant_id;
END $$;

-- Which of these events are in the log already. Ask under the heads' locks.
CREATE FUNCTION audit.find_events(event_ids uuid[])
RETURNS TABLE (event_id uuid, tenant_id uuid, seq bigint, content_digest bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    low   uuid;
    high  uuid;
BEGIN
    SELECT i INTO low FROM unnest(event_ids) i ORDER BY i LIMIT 1;
    SELECT i INTO high FROM unnest(event_ids) i ORDER BY i DESC LIMIT 1;
    -- the bounds prune partitions, = ANY of a parameter does not
    RETURN QUERY SELECT l.event_id, l.tenant_id, l.seq, l.content_digest FROM audit.audit_logs l
        WHERE l.event_id = ANY (event_ids) AND l.event_id BETWEEN low AND high;
END $$;

-- Move heads over rows that this transaction has just inserted. Refuses when a head is not where the caller thinks,
-- or when the rows between its old and its new size are not all there.
CREATE FUNCTION audit.advance_heads(tenants uuid[], old_sizes bigint[], new_sizes bigint[], ranges bytea[], roots bytea[], event_ids uuid[])
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    low    uuid;
    high   uuid;
    rows   bigint;
BEGIN
    IF num_nulls(tenants, old_sizes, new_sizes, ranges, roots, event_ids) <> 0
       OR (cardinality(old_sizes), cardinality(new_sizes), cardinality(ranges), cardinality(roots))
           IS DISTINCT FROM (cardinality(tenants), cardinality(tenants), cardinality(tenants), cardinality(tenants)) THEN
        RAISE EXCEPTION 'audit: heads do not line up' USING ERRCODE = '22023';
    END IF;
    SELECT i INTO low FROM unnest(event_ids) i ORDER BY i LIMIT 1;
    SELECT i INTO high FROM unnest(event_ids) i ORDER BY i DESC LIMIT 1;
    FOR i IN 1 .. cardinality(tenants) LOOP
        SELECT count(DISTINCT l.seq) INTO rows FROM audit.audit_logs l
            WHERE l.tenant_id = tenants[i] AND l.seq >= old_sizes[i] AND l.seq < new_sizes[i]
              AND l.event_id = ANY (event_ids) AND l.event_id BETWEEN low AND high;
        IF (rows = new_sizes[i] - old_sizes[i]) IS NOT TRUE THEN
            RAISE EXCEPTION 'audit: gap in the sequence' USING ERRCODE = '40001';
        END IF;
        UPDATE audit.audit_heads h SET size = new_sizes[i], range = ranges[i], root = roots[i], updated_at = clock_timestamp()
            WHERE h.tenant_id = tenants[i] AND h.size = old_sizes[i];
        IF NOT FOUND THEN
            RAISE EXCEPTION 'audit: the head has moved' USING ERRCODE = '40001';
        END IF;
    END LOOP;
END $$;

GRANT EXECUTE ON FUNCTION audit.claims(text[]), audit.lock_heads(uuid[]), audit.find_events(uuid[]),
    audit.advance_heads(uuid[], bigint[], bigint[], bytea[], bytea[], uuid[]) TO cordon_audit;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
