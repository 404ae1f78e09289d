SET LOCAL ROLE cordon_owner;
GRANT DELETE ON jobs.schedules, jobs.store_pass TO cordon_jobs_definer;
GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;

SET LOCAL ROLE cordon_jobs_definer;
DELETE FROM jobs.schedules WHERE name = 'reconcile_shares';
DELETE FROM jobs.store_differences WHERE store = 'shares';
DELETE FROM jobs.store_pass WHERE store = 'shares';
DROP FUNCTION jobs.store_state(), jobs.store_compared(text, uuid, uuid, bigint, bigint, integer),
    jobs.store_differs(text, uuid, uuid, text, bigint, bigint, integer), jobs.store_row(text, uuid, uuid), jobs.store_rows(text, uuid, uuid, integer),
    jobs.store_begin(text);
ALTER FUNCTION jobs.original_rows(uuid, uuid, integer) RENAME TO store_rows;
CREATE FUNCTION jobs.store_begin() RETURNS TABLE (tenant_id uuid, document_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE jobs.store_pass p SET at_tenant = DEFAULT, at_document = DEFAULT, began_at = clock_timestamp(), ended_at = NULL, objects = 0,
        documents = 0, foreign_keys = 0 WHERE p.began_at IS NULL OR p.ended_at IS NOT NULL;
    RETURN QUERY SELECT p.at_tenant, p.at_document FROM jobs.store_pass p;
END $$;

CREATE FUNCTION jobs.store_row(p_tenant_id uuid, p_document_id uuid) RETURNS TABLE (bytes bigint, must_be boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.bytes, d.status IN ('processing', 'ready', 'failed') AND (d.content_type <> 'application/x-tar' OR d.status = 'ready')
        FROM app.documents d WHERE d.tenant_id = p_tenant_id AND d.id = p_document_id
    UNION ALL SELECT 0, false FROM app.uploads u WHERE u.tenant_id = p_tenant_id AND u.document_id = p_document_id
$$;

CREATE FUNCTION jobs.store_differs(p_tenant_id uuid, p_document_id uuid, kind text, expected_bytes bigint, found_bytes bigint, versions integer)
RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO jobs.store_differences AS s (tenant_id, document_id, kind, expected_bytes, found_bytes, versions)
        VALUES (p_tenant_id, p_document_id, store_differs.kind, store_differs.expected_bytes, store_differs.found_bytes, store_differs.versions)
        ON CONFLICT (tenant_id, document_id) DO UPDATE SET kind = excluded.kind, expected_bytes = excluded.expected_bytes,
            found_bytes = excluded.found_bytes, versions = excluded.versions, seen_at = clock_timestamp()
$$;

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

CREATE FUNCTION jobs.store_state() RETURNS TABLE (kind text, differences bigint, compared_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.kind, count(s.kind), (SELECT (extract(epoch FROM clock_timestamp() - p.last_ended_at) * 1000)::bigint FROM jobs.store_pass p)
        FROM unnest(ARRAY['missing', 'size', 'versions', 'orphan', 'foreign']) k (kind) LEFT JOIN jobs.store_differences s ON s.kind = k.kind GROUP BY k.kind
$$;
GRANT EXECUTE ON FUNCTION jobs.store_begin(), jobs.store_rows(uuid, uuid, integer), jobs.store_row(uuid, uuid),
    jobs.store_differs(uuid, uuid, text, bigint, bigint, integer), jobs.store_compared(uuid, uuid, bigint, bigint, integer),
    jobs.store_state() TO cordon_jobs;
RESET ROLE;
DROP FUNCTION keys.share_rows(uuid, uuid, integer), keys.share_row(uuid, uuid);

SET LOCAL ROLE cordon_audit_definer;
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
        CASE WHEN d.kind = 'orphan' THEN d.tenant_id END, CASE WHEN is_row THEN ARRAY[d.document_id] ELSE '{}' END,
        jsonb_build_object('kind', d.kind, 'expected_bytes', d.expected_bytes, 'found_bytes', d.found_bytes, 'versions', d.versions,
            'object', CASE WHEN d.kind = 'orphan' THEN d.document_id END));
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION audit.on_store_pass() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('store.compare', '00000000-0000-0000-0000-000000000000', NULL, '{}', jsonb_build_object(
        'objects', NEW.objects, 'documents', NEW.documents, 'differences', NEW.differences));
    RETURN NULL;
END $$;
RESET ROLE;

SET LOCAL ROLE cordon_owner;
REVOKE DELETE ON jobs.schedules, jobs.store_pass FROM cordon_jobs_definer;
REVOKE CREATE ON SCHEMA jobs FROM cordon_jobs_definer;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
REVOKE USAGE ON SCHEMA keys FROM cordon_jobs_definer;
DROP POLICY keys_definer_reads ON app.uploads;
REVOKE SELECT (tenant_id, document_id) ON app.uploads FROM cordon_keys_definer;
ALTER TABLE jobs.store_differences DROP COLUMN store, ADD PRIMARY KEY (tenant_id, document_id);
ALTER TABLE jobs.store_pass DROP COLUMN store, ADD COLUMN is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only);
RESET ROLE;
