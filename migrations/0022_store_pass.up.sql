-- The document store and the database compared: what each has of originals, key by key (services/ingest-worker/reconcile.c).
-- A difference is a row here from when it is first seen until a later pass sees it gone; both are events. Nothing is mended by
-- the comparison itself: the janitor removes what an intent tells of, an erasure what somebody asked for, and people the rest.

SET LOCAL ROLE cordon_owner;

CREATE TABLE jobs.store_differences (
    tenant_id       uuid NOT NULL,      -- as the object's key says; there may be no such tenant
    document_id     uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('missing', 'size', 'versions', 'orphan', 'foreign')),
    expected_bytes  bigint CHECK (expected_bytes >= 0),     -- of the sealed original
    found_bytes     bigint CHECK (found_bytes >= 0),        -- of its newest version
    versions        integer NOT NULL CHECK (versions >= 0), -- and delete markers; with 'foreign': keys that are no document's
    found_at        timestamptz NOT NULL DEFAULT now(),
    seen_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, document_id)
);

-- The pass under way, or the last one.
CREATE TABLE jobs.store_pass (
    is_only        boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    at_tenant      uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',     -- compared up to here
    at_document    uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    began_at       timestamptz,
    ended_at       timestamptz,         -- NULL: under way
    objects        bigint NOT NULL DEFAULT 0,
    documents      bigint NOT NULL DEFAULT 0,
    foreign_keys   integer NOT NULL DEFAULT 0,
    differences    bigint NOT NULL DEFAULT 0,   -- that stood at its end
    last_ended_at  timestamptz NOT NULL DEFAULT now()       -- of the pass before; while there was none, of this table's making
);
INSERT INTO jobs.store_pass DEFAULT VALUES;

ALTER TABLE jobs.store_differences ENABLE ROW LEVEL SECURITY;
ALTER TABLE jobs.store_differences FORCE ROW LEVEL SECURITY;
ALTER TABLE jobs.store_pass ENABLE ROW LEVEL SECURITY;
ALTER TABLE jobs.store_pass FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON jobs.store_differences TO cordon_jobs_definer USING (true) WITH CHECK (true);
CREATE POLICY definer ON jobs.store_pass TO cordon_jobs_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON jobs.store_differences TO cordon_jobs_definer;
GRANT SELECT, UPDATE ON jobs.store_pass TO cordon_jobs_definer;
GRANT SELECT (content_type, bytes) ON app.documents TO cordon_jobs_definer;

GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
GRANT INSERT ON jobs.schedules TO cordon_jobs_definer;
RESET ROLE;
SET LOCAL ROLE cordon_jobs_definer;

INSERT INTO jobs.schedules (name, every, next_run_at) VALUES ('reconcile', '6 h', date_trunc('day', now(), 'UTC') + interval '1 day 4 h');

-- Begin a pass, or go on with the one under way: behind which document.
CREATE FUNCTION jobs.store_begin() RETURNS TABLE (tenant_id uuid, document_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE jobs.store_pass p SET at_tenant = DEFAULT, at_document = DEFAULT, began_at = clock_timestamp(), ended_at = NULL, objects = 0,
        documents = 0, foreign_keys = 0 WHERE p.began_at IS NULL OR p.ended_at IS NOT NULL;
    RETURN QUERY SELECT p.at_tenant, p.at_document FROM jobs.store_pass p;
END $$;

-- The next n documents and uploads in the order of their objects' keys. must_be: its original is in the store, whole; otherwise it
-- may be there, or some of it: it is uploaded, packed, deleted or erased just now.
CREATE FUNCTION jobs.store_rows(after_tenant uuid, after_document uuid, n integer)
RETURNS TABLE (tenant_id uuid, document_id uuid, bytes bigint, must_be boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.tenant_id, r.id, r.bytes, r.must_be FROM (
        (SELECT d.tenant_id, d.id, d.bytes, d.status IN ('processing', 'ready', 'failed') AND (d.content_type <> 'application/x-tar' OR d.status = 'ready') AS must_be
            FROM app.documents d WHERE (d.tenant_id, d.id) > (after_tenant, after_document) ORDER BY d.tenant_id, d.id LIMIT least(greatest(n, 0), 1000))
        UNION ALL
        (SELECT u.tenant_id, u.document_id, 0, false FROM app.uploads u
            WHERE (u.tenant_id, u.document_id) > (after_tenant, after_document) ORDER BY u.tenant_id, u.document_id LIMIT least(greatest(n, 0), 1000))) r
        ORDER BY r.tenant_id, r.id LIMIT least(greatest(n, 0), 1000)
$$;

-- The same of one; no row: there is none.
CREATE FUNCTION jobs.store_row(p_tenant_id uuid, p_document_id uuid) RETURNS TABLE (bytes bigint, must_be boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.bytes, d.status IN ('processing', 'ready', 'failed') AND (d.content_type <> 'application/x-tar' OR d.status = 'ready')
        FROM app.documents d WHERE d.tenant_id = p_tenant_id AND d.id = p_document_id
    UNION ALL SELECT 0, false FROM app.uploads u WHERE u.tenant_id = p_tenant_id AND u.document_id = p_document_id
$$;

-- One difference that was looked at twice.
CREATE FUNCTION jobs.store_differs(p_tenant_id uuid, p_document_id uuid, kind text, expected_bytes bigint, found_bytes bigint, versions integer)
RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO jobs.store_differences AS s (tenant_id, document_id, kind, expected_bytes, found_bytes, versions)
        VALUES (p_tenant_id, p_document_id, store_differs.kind, store_differs.expected_bytes, store_differs.found_bytes, store_differs.versions)
        ON CONFLICT (tenant_id, document_id) DO UPDATE SET kind = excluded.kind, expected_bytes = excluded.expected_bytes,
            found_bytes = excluded.found_bytes, versions = excluded.versions, seen_at = clock_timestamp()
$$;

-- Compared from where the pass stood up to this document; NULL: to the end. What was not seen again is no difference any more.
CREATE FUNCTION jobs.store_compared(until_tenant uuid, until_document uuid, objects bigint, documents bigint, foreign_keys integer)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nil     CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    pass    jobs.store_pass;
    is_end  boolean := until_tenant IS NULL;
BEGIN
    SELECT p.* INTO STRICT pass FROM jobs.store_pass p FOR UPDATE;
    DELETE FROM jobs.store_differences s WHERE s.kind <> 'foreign' AND s.seen_at < pass.began_at
        AND (s.tenant_id, s.document_id) > (pass.at_tenant, pass.at_document) AND (is_end OR (s.tenant_id, s.document_id) <= (until_tenant, until_document));
    IF is_end AND pass.foreign_keys + store_compared.foreign_keys > 0 THEN
        PERFORM jobs.store_differs(nil, nil, 'foreign', NULL, NULL, pass.foreign_keys + store_compared.foreign_keys);
    ELSIF is_end THEN
        DELETE FROM jobs.store_differences s WHERE s.kind = 'foreign';
    END IF;
    UPDATE jobs.store_pass p SET objects = p.objects + store_compared.objects, documents = p.documents + store_compared.documents,
        foreign_keys = p.foreign_keys + store_compared.foreign_keys,
        differences = CASE WHEN is_end THEN (SELECT count(*) FROM jobs.store_differences) ELSE 0 END,
        at_tenant = coalesce(until_tenant, p.at_tenant), at_document = coalesce(until_document, p.at_document),
        ended_at = CASE WHEN is_end THEN clock_timestamp() END, last_ended_at = CASE WHEN is_end THEN clock_timestamp() ELSE p.last_ended_at END;
END $$;

-- How many differences of each kind stand, and since when nobody has compared everything.
CREATE FUNCTION jobs.store_state() RETURNS TABLE (kind text, differences bigint, compared_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.kind, count(s.kind), (SELECT (extract(epoch FROM clock_timestamp() - p.last_ended_at) * 1000)::bigint FROM jobs.store_pass p)
        FROM unnest(ARRAY['missing', 'size', 'versions', 'orphan', 'foreign']) k (kind) LEFT JOIN jobs.store_differences s ON s.kind = k.kind GROUP BY k.kind
$$;

GRANT EXECUTE ON FUNCTION jobs.store_begin(), jobs.store_rows(uuid, uuid, integer), jobs.store_row(uuid, uuid),
    jobs.store_differs(uuid, uuid, text, bigint, bigint, integer), jobs.store_compared(uuid, uuid, bigint, bigint, integer),
    jobs.store_state() TO cordon_jobs;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA jobs FROM cordon_jobs_definer;
REVOKE INSERT ON jobs.schedules FROM cordon_jobs_definer;

------------------------------------------------------------------------------------------------- audit

GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

-- On the tenant's log when there is a document, on the platform's when there is only something in the store.
CREATE FUNCTION audit.on_store_difference() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d       record;
    is_row  boolean;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.kind = OLD.kind THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        d := OLD;
    ELSE
        d := NEW;
    END IF;
    is_row := d.kind IN ('missing', 'size', 'versions');
    PERFORM audit.record(CASE WHEN TG_OP = 'DELETE' THEN 'store.difference.end' ELSE 'store.difference' END,
        CASE WHEN is_row THEN d.tenant_id ELSE '00000000-0000-0000-0000-000000000000' END,
        CASE WHEN d.kind = 'orphan' THEN d.tenant_id END, CASE WHEN is_row THEN ARRAY[d.document_id] ELSE '{}' END,
        jsonb_build_object('kind', d.kind, 'expected_bytes', d.expected_bytes, 'found_bytes', d.found_bytes, 'versions', d.versions,
            'object', CASE WHEN d.kind = 'orphan' THEN d.document_id END));
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_store_pass() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('store.compare', '00000000-0000-0000-0000-000000000000', NULL, '{}', jsonb_build_object(
        'objects', NEW.objects, 'documents', NEW.documents, 'differences', NEW.differences));
    RETURN NULL;
END $$;
GRANT EXECUTE ON FUNCTION audit.on_store_difference(), audit.on_store_pass() TO cordon_owner;
RESET ROLE;

SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON jobs.store_differences FOR EACH ROW EXECUTE FUNCTION audit.on_store_difference();
CREATE TRIGGER audit AFTER UPDATE ON jobs.store_pass FOR EACH ROW WHEN (NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL) EXECUTE FUNCTION audit.on_store_pass();
ALTER TABLE jobs.store_differences ENABLE ALWAYS TRIGGER audit;
ALTER TABLE jobs.store_pass ENABLE ALWAYS TRIGGER audit;
RESET ROLE;
