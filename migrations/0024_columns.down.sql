SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;
CREATE OR REPLACE FUNCTION audit.leaves_now(p_tenant_id uuid, p_first bigint, p_count integer) RETURNS TABLE (seq bigint, leaf bytea, is_as_stored boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.seq, coalesce(h.now, l.leaf_hash), CASE WHEN l.event IS NOT NULL THEN l.leaf_hash = h.now
            ELSE EXISTS (SELECT FROM audit.archives a WHERE a.tenant_id = l.tenant_id AND a.month = audit.month_of(l.event_id) AND a.first = l.archive_first) END
        FROM audit.audit_logs l CROSS JOIN LATERAL (SELECT sha256('\x00'::bytea || l.event) AS now) h
        WHERE l.tenant_id = p_tenant_id AND l.seq >= p_first AND l.seq < p_first + least(p_count, 4096) ORDER BY l.seq
$$;
DROP FUNCTION audit.row_is_event(bytea, uuid, uuid, bigint, timestamptz, timestamptz, text, text, text, uuid, uuid, uuid, uuid, uuid, uuid[], bytea, bytea);
RESET ROLE;
SET LOCAL ROLE cordon_owner;
DROP POLICY definer_reads ON audit.document_events;
REVOKE SELECT ON audit.document_events FROM cordon_audit_definer;
REVOKE SELECT (occurred_at, recorded_at, actor_id, document_ids) ON audit.audit_logs FROM cordon_audit_definer;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
