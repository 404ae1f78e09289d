SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
DROP TRIGGER refuse_closed ON audit.audit_outbox;
RESET ROLE;

SET LOCAL ROLE cordon_audit_definer;
CREATE OR REPLACE FUNCTION audit.archive_begin(p_month date, p_live_months integer) RETURNS TABLE (tenant_id uuid, last bigint)
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

DROP FUNCTION audit.drain(integer, boolean);
CREATE FUNCTION audit.drain(n integer)
RETURNS TABLE (event_id uuid, tenant_id uuid, occurred_at timestamptz, action text, actor_id uuid, session_id uuid, job_id uuid,
               request_id uuid, resource_id uuid, document_ids text[], detail text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH taken AS (
        DELETE FROM audit.audit_outbox o WHERE o.id = ANY (ARRAY(
            SELECT p.id FROM audit.audit_outbox p ORDER BY p.id LIMIT least(greatest(n, 0), 1000) FOR UPDATE SKIP LOCKED))
        RETURNING o.*)
    SELECT t.event_id, t.tenant_id, t.occurred_at, t.action, t.actor_id, t.session_id, t.job_id,
           t.request_id, t.resource_id, t.document_ids::text[], t.detail::text
        FROM taken t ORDER BY t.id;
END $$;
GRANT EXECUTE ON FUNCTION audit.drain(integer) TO cordon_audit;
DROP FUNCTION audit.refused_records(), audit.refuse_closed(), audit.is_open(date);
RESET ROLE;

SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
