-- Signed heads of the log's trees, and the nodes that proofs are made of.
--
-- A checkpoint is a tree's size and root in a note that audit-writer signed, only ever of a head that is committed. Each
-- tenant's signed head is itself an event on the log without a tenant ("the platform's log"), so that one checkpoint of
-- that log vouches for all trees: one that is missing shows. Those of the platform's log are numbered; what was signed
-- with each goes, as one object, into a bucket that nobody can change. All tables here are append-only like the log.

SET LOCAL ROLE cordon_owner;

-- Roots of perfect subtrees of 256^level leaves, written as they fill; level 0 is audit_logs.leaf_hash. A proof over
-- ten million leaves reads a few ranges of 256 hashes.
CREATE TABLE audit.tree_nodes (
    tenant_id   uuid NOT NULL,
    level       smallint NOT NULL CHECK (level BETWEEN 1 AND 7),
    index       bigint NOT NULL CHECK (index >= 0),
    hash        bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (tenant_id, level, index)
);

CREATE TABLE audit.checkpoints (
    tenant_id   uuid NOT NULL,
    size        bigint NOT NULL CHECK (size > 0),
    root        bytea NOT NULL CHECK (octet_length(root) = 32),
    note        text NOT NULL CHECK (octet_length(note) BETWEEN 1 AND 4096),     -- whole: text, signature
    verifier    text NOT NULL CHECK (octet_length(verifier) BETWEEN 1 AND 512),  -- public: what the note is verified with
    number      bigint NOT NULL CHECK (number > 0),         -- of the platform's checkpoint that it is anchored with
    event_seq   bigint CHECK (event_seq >= 0),              -- its event on the platform's log; the platform's own has none
    signed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, size),
    CONSTRAINT event_unless_platform CHECK ((event_seq IS NULL) = (tenant_id = '00000000-0000-0000-0000-000000000000'))
);
CREATE UNIQUE INDEX checkpoints_platform_number ON audit.checkpoints (number) WHERE tenant_id = '00000000-0000-0000-0000-000000000000';
CREATE INDEX checkpoints_number ON audit.checkpoints (number);

-- Which numbers are known to be in the bucket.
CREATE TABLE audit.anchors (
    number       bigint PRIMARY KEY CHECK (number > 0),
    anchored_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- An operator's word that the database was restored to a state before `anchored`, which the bucket has: heads signed
-- after `last` are of trees that this database has not. Numbering goes on behind `anchored`.
CREATE TABLE audit.recoveries (
    anchored     bigint PRIMARY KEY CHECK (anchored > 0),
    last         bigint NOT NULL CHECK (last >= 0),
    reason       text NOT NULL CHECK (reason ~ '^[!-~]{1,128}$'),
    recorded_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What the witnesses of a customer said about a checkpoint: lines to be added to its note.
CREATE TABLE audit.cosignatures (
    tenant_id    uuid NOT NULL,
    size         bigint NOT NULL,
    key_name     text NOT NULL CHECK (key_name ~ '^[!-*,-~]{1,128}$'),
    line         text NOT NULL CHECK (octet_length(line) BETWEEN 1 AND 1024),
    received_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, size, key_name),
    FOREIGN KEY (tenant_id, size) REFERENCES audit.checkpoints (tenant_id, size)
);

DO $$
DECLARE
    name  text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tree_nodes', 'checkpoints', 'anchors', 'recoveries', 'cosignatures'] LOOP
        EXECUTE format('CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON audit.%I FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()', name);
        EXECUTE format('CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', name);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_row', name);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_statement', name);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY definer ON audit.%I TO cordon_audit_definer USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;
-- A tenant's auditor reads the tenant's own, and the platform's checkpoints: a size and a root, which show nothing.
CREATE POLICY reader_reads ON audit.tree_nodes FOR SELECT TO cordon_audit_reader
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('audit:read')));
CREATE POLICY reader_reads ON audit.checkpoints FOR SELECT TO cordon_audit_reader
    USING ((tenant_id = (SELECT authz.tenant()) OR tenant_id = '00000000-0000-0000-0000-000000000000') AND (SELECT authz.may('audit:read')));
CREATE POLICY reader_reads ON audit.cosignatures FOR SELECT TO cordon_audit_reader
    USING ((tenant_id = (SELECT authz.tenant()) OR tenant_id = '00000000-0000-0000-0000-000000000000') AND (SELECT authz.may('audit:read')));
GRANT SELECT ON audit.tree_nodes, audit.checkpoints, audit.cosignatures TO cordon_audit_reader;
GRANT SELECT, INSERT ON audit.tree_nodes, audit.checkpoints, audit.anchors, audit.recoveries, audit.cosignatures TO cordon_audit_definer;

-- The filters of GET /audit/events: each finds its rows by an index that begins with the tenant. Parents make them on
-- every partition; a partition made later gets them when it is attached.
CREATE INDEX audit_logs_action ON audit.audit_logs (tenant_id, action, seq);
CREATE INDEX audit_logs_actor ON audit.audit_logs (tenant_id, actor_id, seq) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_logs_resource ON audit.audit_logs (tenant_id, resource_id, seq) WHERE resource_id IS NOT NULL;
CREATE INDEX audit_logs_request ON audit.audit_logs (request_id) WHERE request_id IS NOT NULL;

GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

------------------------------------------------------------------------------------------------- what audit-writer may ask

-- Keep the roots of the subtrees that a batch filled.
CREATE FUNCTION audit.put_nodes(tenants uuid[], levels bigint[], indexes bigint[], hashes bytea[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO audit.tree_nodes (tenant_id, level, index, hash)
        SELECT t, l::smallint, i, h FROM unnest(tenants, levels, indexes, hashes) AS x (t, l, i, h)
$$;

-- One signer at a time, until the transaction ends, whatever the number of audit-writers.
CREATE FUNCTION audit.begin_signing() RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_try_advisory_xact_lock(hashtextextended('audit.checkpoints', 0))
$$;

-- Heads that have grown since they were last signed; behind: by how many events. What is not committed is not seen.
CREATE FUNCTION audit.due_heads()
RETURNS TABLE (tenant_id uuid, size bigint, root bytea, behind bigint, signed_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.tenant_id, h.size, h.root, h.size - coalesce(c.size, 0),
           coalesce((extract(epoch FROM clock_timestamp() - c.signed_at) * 1000)::bigint, 9223372036854775807)
        FROM audit.audit_heads h LEFT JOIN LATERAL (
            SELECT k.size, k.signed_at FROM audit.checkpoints k WHERE k.tenant_id = h.tenant_id ORDER BY k.size DESC LIMIT 1) c ON true
        WHERE h.size > coalesce(c.size, 0) ORDER BY h.tenant_id
$$;

-- A head of which a larger one was signed: this database has been put back, or changed by hand. NULL: none.
CREATE FUNCTION audit.lost_head() RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.tenant_id FROM (SELECT DISTINCT ON (k.tenant_id) k.tenant_id, k.size, k.root FROM audit.checkpoints k
                             WHERE k.number > coalesce((SELECT max(r.anchored) FROM audit.recoveries r), 0)
                             ORDER BY k.tenant_id, k.size DESC) c
        LEFT JOIN audit.audit_heads h ON h.tenant_id = c.tenant_id
        WHERE (h.size > c.size OR (h.size = c.size AND h.root = c.root)) IS NOT TRUE LIMIT 1
$$;

-- last: the newest number signed; anchored: the newest known to be in the bucket; recovered: how far an operator has
-- said that the bucket is ahead. The next number follows the greatest of last and recovered.
CREATE FUNCTION audit.anchor_state(OUT last bigint, OUT anchored bigint, OUT recovered bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT max(c.number) FROM audit.checkpoints c WHERE c.tenant_id = '00000000-0000-0000-0000-000000000000'), 0),
           coalesce((SELECT max(a.number) FROM audit.anchors a), 0),
           coalesce((SELECT max(r.anchored) FROM audit.recoveries r), 0)
$$;

-- Keep signed heads. Each must be of a head that is there: as large or larger, and at its size the same root.
CREATE FUNCTION audit.put_checkpoints(tenants uuid[], sizes bigint[], roots bytea[], notes text[], verifiers text[], event_seqs bigint[],
                                      p_number bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    next  bigint;
BEGIN
    SELECT greatest(s.last, s.recovered) + 1 INTO next FROM audit.anchor_state() s;
    IF (p_number = next) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: checkpoint % is not the next one', p_number USING ERRCODE = '40001';
    END IF;
    PERFORM FROM unnest(tenants, sizes, roots) AS x (t, s, r) LEFT JOIN audit.audit_heads h ON h.tenant_id = x.t
        WHERE (h.size > x.s OR (h.size = x.s AND h.root = x.r)) IS NOT TRUE;
    IF FOUND THEN
        RAISE EXCEPTION 'audit: a checkpoint of a head that is not there' USING ERRCODE = '22023';
    END IF;
    INSERT INTO audit.checkpoints (tenant_id, size, root, note, verifier, event_seq, number)
        SELECT t, s, r, n, v, e, p_number FROM unnest(tenants, sizes, roots, notes, verifiers, event_seqs) AS x (t, s, r, n, v, e);
END $$;

-- The notes of one number, the platform's first: the object that goes into the bucket.
CREATE FUNCTION audit.anchor_notes(p_number bigint) RETURNS TABLE (tenant_id uuid, size bigint, note text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.tenant_id, c.size, c.note FROM audit.checkpoints c WHERE c.number = p_number ORDER BY c.tenant_id, c.size
$$;

CREATE FUNCTION audit.put_anchor(p_number bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO audit.anchors (number) VALUES (p_number) ON CONFLICT DO NOTHING
$$;

GRANT EXECUTE ON FUNCTION audit.put_nodes(uuid[], bigint[], bigint[], bytea[]), audit.begin_signing(), audit.due_heads(), audit.lost_head(),
    audit.anchor_state(), audit.put_checkpoints(uuid[], bigint[], bytea[], text[], text[], bigint[], bigint), audit.anchor_notes(bigint),
    audit.put_anchor(bigint) TO cordon_audit;

------------------------------------------------------------------------------------------------- an operator's word

CREATE FUNCTION audit.on_recovery() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('audit.recover', '00000000-0000-0000-0000-000000000000', NULL, '{}',
        jsonb_build_object('anchored', NEW.anchored, 'last', NEW.last, 'reason', NEW.reason));
    RETURN NULL;
END $$;

-- cordon-migrate recover-audit: only forward, and only beyond what this database has signed itself.
CREATE FUNCTION audit.recover(p_anchored bigint, p_reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s  record;
BEGIN
    SELECT * INTO s FROM audit.anchor_state();
    IF (p_anchored >= greatest(s.last, s.recovered, 1)) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: the database is at checkpoint % already', greatest(s.last, s.recovered) USING ERRCODE = '22023';
    END IF;
    INSERT INTO audit.recoveries (anchored, last, reason) VALUES (p_anchored, s.last, audit.code(p_reason));
END $$;
GRANT EXECUTE ON FUNCTION audit.on_recovery(), audit.recover(bigint, text) TO cordon_owner;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
CREATE TRIGGER audit AFTER INSERT ON audit.recoveries FOR EACH ROW EXECUTE FUNCTION audit.on_recovery();
ALTER TABLE audit.recoveries ENABLE ALWAYS TRIGGER audit;
RESET ROLE;
