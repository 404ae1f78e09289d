SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;
CREATE OR REPLACE FUNCTION audit.evidence_events(p_after bigint, p_size bigint, p_n integer) RETURNS TABLE (seq bigint, event bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own  app.evidence := keys.own_evidence();
BEGIN
    IF own.from_at IS NOT NULL THEN
        RETURN QUERY SELECT l.seq, l.event FROM audit.audit_logs l WHERE l.tenant_id = own.tenant_id AND l.seq > p_after AND l.seq < p_size
            AND l.recorded_at >= own.from_at AND l.recorded_at < own.to_at ORDER BY l.seq LIMIT least(p_n, 256);
    ELSE
        RETURN QUERY SELECT l.seq, l.event FROM audit.audit_logs l WHERE l.tenant_id = own.tenant_id AND l.seq > p_after AND l.seq < p_size
            AND (l.seq IN (SELECT d.seq FROM audit.document_events d JOIN app.evidence_sources s ON s.tenant_id = d.tenant_id AND s.document_id = d.document_id
                           WHERE s.tenant_id = own.tenant_id AND s.evidence_id = own.id)
                 OR (l.action = 'answer.receipt' AND l.resource_id IN (SELECT audit.evidence_answers(own))))
            ORDER BY l.seq LIMIT least(p_n, 256);
    END IF;
END $$;
RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
