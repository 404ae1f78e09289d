-- Where the event that vouches for the certificate of a tenant's end is, when its month is archived: as audit.archived_events(), for people of
-- the platform, as audit.ending_event().

SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

CREATE FUNCTION audit.ending_archived(p_tenant_id uuid)
RETURNS TABLE (seq bigint, month text, first bigint, place bigint, bytes integer, leaf_hash bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.seq, to_char(audit.month_of(l.event_id), 'YYYY-MM'), l.archive_first, l.archive_offset, l.archive_bytes, l.leaf_hash
        FROM audit.audit_logs l WHERE l.tenant_id = p_tenant_id AND l.action = 'tenant.destroy' AND l.event IS NULL AND authz.may('tenants:manage')
$$;
GRANT EXECUTE ON FUNCTION audit.ending_archived(uuid) TO cordon_audit_reader;
RESET ROLE;

SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
