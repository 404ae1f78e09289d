-- Key shares are compared with the database as originals are: both ways, in key order, twice, and nothing is mended (ADR 0031).
-- Which rows must have a share only cordon_keys_definer may know, who alone reads wrapped keys.

SET LOCAL ROLE cordon_owner;

ALTER TABLE jobs.store_differences ADD COLUMN store text NOT NULL DEFAULT 'originals' CHECK (store IN ('originals', 'shares'));
ALTER TABLE jobs.store_differences ALTER COLUMN store DROP DEFAULT, DROP CONSTRAINT store_differences_pkey, ADD PRIMARY KEY (store, tenant_id, document_id);
ALTER TABLE jobs.store_pass DROP CONSTRAINT store_pass_pkey, DROP COLUMN is_only,
    ADD COLUMN store text NOT NULL DEFAULT 'originals' CHECK (store IN ('originals', 'shares'));
ALTER TABLE jobs.store_pass ALTER COLUMN store DROP DEFAULT, ADD PRIMARY KEY (store);

CREATE POLICY keys_definer_reads ON app.uploads FOR SELECT TO cordon_keys_definer USING (true);
GRANT SELECT (tenant_id, document_id) ON app.uploads TO cordon_keys_definer;
GRANT USAGE ON SCHEMA keys TO cordon_jobs_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
GRANT INSERT ON jobs.schedules, jobs.store_pass TO cordon_jobs_definer;
RESET ROLE;

SET LOCAL ROLE cordon_keys_definer;

-- The next n documents, conversations and uploads in the order of their shares' keys. must_be: its key has a second share, which is in the
-- store; otherwise it may be there: its key is made, split, erased or ended just now, or has one share only.
CREATE FUNCTION keys.share_rows(after_tenant uuid, after_id uuid, n integer) RETURNS TABLE (tenant_id uuid, id uuid, must_be boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.tenant_id, r.id, bool_or(r.must_be) FROM (
        (SELECT d.tenant_id, d.id, EXISTS (SELECT FROM keys.document_keys k WHERE k.tenant_id = d.tenant_id AND k.document_id = d.id AND get_byte(k.wrapped, 0) = 2)
                AND NOT EXISTS (SELECT FROM app.erasure_items i WHERE i.tenant_id = d.tenant_id AND i.id = d.id) AS must_be
            FROM app.documents d WHERE (d.tenant_id, d.id) > (after_tenant, after_id) ORDER BY d.tenant_id, d.id LIMIT least(greatest(n, 0), 1000))
        UNION ALL
        (SELECT k.tenant_id, k.conversation_id, get_byte(k.wrapped, 0) = 2 FROM keys.conversation_keys k
            WHERE (k.tenant_id, k.conversation_id) > (after_tenant, after_id) ORDER BY k.tenant_id, k.conversation_id LIMIT least(greatest(n, 0), 1000))
        UNION ALL
        (SELECT u.tenant_id, u.document_id, false FROM app.uploads u
            WHERE (u.tenant_id, u.document_id) > (after_tenant, after_id) ORDER BY u.tenant_id, u.document_id LIMIT least(greatest(n, 0), 1000))
        UNION ALL
        (SELECT i.tenant_id, i.id, false FROM app.erasure_items i
            WHERE i.state <> 'destroyed' AND (i.tenant_id, i.id) > (after_tenant, after_id) ORDER BY i.tenant_id, i.id LIMIT least(greatest(n, 0), 1000))) r
        GROUP BY r.tenant_id, r.id ORDER BY r.tenant_id, r.id LIMIT least(greatest(n, 0), 1000)
$$;

-- The same of one; no row: there is none. Of a tenant that ends nothing must be.
CREATE FUNCTION keys.share_row(p_tenant_id uuid, p_id uuid) RETURNS TABLE (must_be boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT bool_or(r.must_be) AND NOT keys.is_ending(p_tenant_id) FROM (
        SELECT EXISTS (SELECT FROM keys.document_keys k WHERE k.tenant_id = d.tenant_id AND k.document_id = d.id AND get_byte(k.wrapped, 0) = 2)
                AND NOT EXISTS (SELECT FROM app.erasure_items i WHERE i.tenant_id = d.tenant_id AND i.id = d.id) AS must_be
            FROM app.documents d WHERE d.tenant_id = p_tenant_id AND d.id = p_id
        UNION ALL SELECT get_byte(k.wrapped, 0) = 2 FROM keys.conversation_keys k WHERE k.tenant_id = p_tenant_id AND k.conversation_id = p_id
        UNION ALL SELECT false FROM app.uploads u WHERE u.tenant_id = p_tenant_id AND u.document_id = p_id
        UNION ALL SELECT false FROM app.erasure_items i WHERE i.state <> 'destroyed' AND i.tenant_id = p_tenant_id AND i.id = p_id) r
        HAVING count(*) > 0
$$;
GRANT EXECUTE ON FUNCTION keys.share_rows(uuid, uuid, integer), keys.share_row(uuid, uuid) TO cordon_jobs_definer;
RESET ROLE;

SET LOCAL ROLE cordon_jobs_definer;

INSERT INTO jobs.store_pass (store) VALUES ('shares');
INSERT INTO jobs.schedules (name, every, next_run_at) VALUES ('reconcile_shares', '6 h', date_trunc('day', now(), 'UTC') + interval '1 day 5 h');
DROP FUNCTION jobs.store_state(), jobs.store_compared(uuid, uuid, bigint, bigint, integer),
    jobs.store_differs(uuid, uuid, text, bigint, bigint, integer), jobs.store_row(uuid, uuid), jobs.store_begin();
ALTER FUNCTION jobs.store_rows(uuid, uuid, integer) RENAME TO original_rows;

-- Begin a pass, or go on with the one under way: behind which document.
CREATE FUNCTION jobs.store_begin(p_store text) RETURNS TABLE (tenant_id uuid, document_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE jobs.store_pass p SET at_tenant = DEFAULT, at_document = DEFAULT, began_at = clock_timestamp(), ended_at = NULL, objects = 0,
        documents = 0, foreign_keys = 0 WHERE p.store = p_store AND (p.began_at IS NULL OR p.ended_at IS NOT NULL);
    RETURN QUERY SELECT p.at_tenant, p.at_document FROM jobs.store_pass p WHERE p.store = p_store;
END $$;

-- The next n rows whose objects the store has, or may have, in the order of their keys; bytes: plain, of an original.
CREATE FUNCTION jobs.store_rows(p_store text, after_tenant uuid, after_document uuid, n integer)
RETURNS TABLE (tenant_id uuid, document_id uuid, bytes bigint, must_be boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF p_store = 'shares' THEN
        RETURN QUERY SELECT s.tenant_id, s.id, 0::bigint, s.must_be FROM keys.share_rows(after_tenant, after_document, n) s;
    ELSE
        RETURN QUERY SELECT o.tenant_id, o.document_id, o.bytes, o.must_be FROM jobs.original_rows(after_tenant, after_document, n) o;
    END IF;
END $$;

-- The same of one; no row: there is none. Of a tenant that ends nothing must be.
CREATE FUNCTION jobs.store_row(p_store text, p_tenant_id uuid, p_document_id uuid) RETURNS TABLE (bytes bigint, must_be boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF p_store = 'shares' THEN
        RETURN QUERY SELECT 0::bigint, s.must_be FROM keys.share_row(p_tenant_id, p_document_id) s;
    ELSE
        RETURN QUERY SELECT d.bytes, d.status IN ('processing', 'ready', 'failed') AND (d.content_type <> 'application/x-tar' OR d.status = 'ready')
                AND NOT keys.is_ending(p_tenant_id)
            FROM app.documents d WHERE d.tenant_id = p_tenant_id AND d.id = p_document_id
        UNION ALL SELECT 0, false FROM app.uploads u WHERE u.tenant_id = p_tenant_id AND u.document_id = p_document_id;
    END IF;
END $$;

-- One difference that was looked at twice.
CREATE FUNCTION jobs.store_differs(p_store text, p_tenant_id uuid, p_document_id uuid, kind text, expected_bytes bigint, found_bytes bigint, versions integer)
RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO jobs.store_differences AS s (store, tenant_id, document_id, kind, expected_bytes, found_bytes, versions)
        VALUES (p_store, p_tenant_id, p_document_id, store_differs.kind, store_differs.expected_bytes, store_differs.found_bytes, store_differs.versions)
        ON CONFLICT (store, tenant_id, document_id) DO UPDATE SET kind = excluded.kind, expected_bytes = excluded.expected_bytes,
            found_bytes = excluded.found_bytes, versions = excluded.versions, seen_at = clock_timestamp()
$$;

-- Compared from where the pass stood up to this document; NULL: to the end. What was not seen again is no difference any more.
CREATE FUNCTION jobs.store_compared(p_store text, until_tenant uuid, until_document uuid, objects bigint, documents bigint, foreign_keys integer)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nil     CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    pass    jobs.store_pass;
    is_end  boolean := until_tenant IS NULL;
BEGIN
    SELECT p.* INTO STRICT pass FROM jobs.store_pass p WHERE p.store = p_store FOR UPDATE;
    DELETE FROM jobs.store_differences s WHERE s.store = p_store AND s.kind <> 'foreign' AND s.seen_at < pass.began_at
        AND (s.tenant_id, s.document_id) > (pass.at_tenant, pass.at_document) AND (is_end OR (s.tenant_id, s.document_id) <= (until_tenant, until_document));
    IF is_end AND pass.foreign_keys + store_compared.foreign_keys > 0 THEN
        PERFORM jobs.store_differs(p_store, nil, nil, 'foreign', NULL, NULL, pass.foreign_keys + store_compared.foreign_keys);
    ELSIF is_end THEN
        DELETE FROM jobs.store_differences s WHERE s.store = p_store AND s.kind = 'foreign';
    END IF;
    UPDATE jobs.store_pass p SET objects = p.objects + store_compared.objects, documents = p.documents + store_compared.documents,
        foreign_keys = p.foreign_keys + store_compared.foreign_keys,
        differences = CASE WHEN is_end THEN (SELECT count(*) FROM jobs.store_differences s WHERE s.store = p_store) ELSE 0 END,
        at_tenant = coalesce(until_tenant, p.at_tenant), at_document = coalesce(until_document, p.at_document),
        ended_at = CASE WHEN is_end THEN clock_timestamp() END, last_ended_at = CASE WHEN is_end THEN clock_timestamp() ELSE p.last_ended_at END
        WHERE p.store = p_store;
END $$;

-- How many differences of each kind stand in each store, and since when nobody has compared all of it.
CREATE FUNCTION jobs.store_state() RETURNS TABLE (store text, kind text, differences bigint, compared_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.store, k.kind, count(s.kind), (extract(epoch FROM clock_timestamp() - p.last_ended_at) * 1000)::bigint
        FROM jobs.store_pass p CROSS JOIN unnest(ARRAY['missing', 'size', 'versions', 'orphan', 'foreign']) k (kind)
        LEFT JOIN jobs.store_differences s ON s.store = p.store AND s.kind = k.kind GROUP BY p.store, k.kind, p.last_ended_at
$$;

GRANT EXECUTE ON FUNCTION jobs.store_begin(text), jobs.store_rows(text, uuid, uuid, integer), jobs.store_row(text, uuid, uuid),
    jobs.store_differs(text, uuid, uuid, text, bigint, bigint, integer), jobs.store_compared(text, uuid, uuid, bigint, bigint, integer),
    jobs.store_state() TO cordon_jobs;
REVOKE EXECUTE ON FUNCTION jobs.original_rows(uuid, uuid, integer) FROM cordon_jobs;
RESET ROLE;

------------------------------------------------------------------------------------------------- audit

SET LOCAL ROLE cordon_audit_definer;

-- On the tenant's log when there is a row, on the platform's when there is only something in the store. A share may be a
-- conversation's, so its id is no document's.
CREATE OR REPLACE FUNCTION audit.on_store_difference() RETURNS trigger
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
        CASE WHEN d.kind = 'orphan' THEN d.tenant_id END, CASE WHEN is_row AND d.store = 'originals' THEN ARRAY[d.document_id] ELSE '{}' END,
        jsonb_build_object('store', d.store, 'kind', d.kind, 'expected_bytes', d.expected_bytes, 'found_bytes', d.found_bytes, 'versions', d.versions,
            'object', CASE WHEN d.kind = 'orphan' OR (is_row AND d.store = 'shares') THEN d.document_id END));
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION audit.on_store_pass() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('store.compare', '00000000-0000-0000-0000-000000000000', NULL, '{}', jsonb_build_object(
        'store', NEW.store, 'objects', NEW.objects, 'documents', NEW.documents, 'differences', NEW.differences));
    RETURN NULL;
END $$;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
REVOKE CREATE ON SCHEMA jobs FROM cordon_jobs_definer;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
REVOKE INSERT ON jobs.schedules, jobs.store_pass FROM cordon_jobs_definer;
RESET ROLE;
