-- What a package holds of the log is found from its documents and answers, by their indexes: it was looked for in the whole
-- log of the tenant, event by event.

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
        RETURN QUERY SELECT l.seq, l.event FROM (
                SELECT d.seq, d.event_id FROM app.evidence_sources s JOIN audit.document_events d ON d.tenant_id = s.tenant_id AND d.document_id = s.document_id
                    WHERE s.tenant_id = own.tenant_id AND s.evidence_id = own.id AND d.seq > p_after AND d.seq < p_size
                UNION
                SELECT r.seq, r.event_id FROM (SELECT DISTINCT a FROM audit.evidence_answers(own) a) x
                    JOIN audit.audit_logs r ON r.tenant_id = own.tenant_id AND r.resource_id = x.a
                    WHERE r.action = 'answer.receipt' AND r.seq > p_after AND r.seq < p_size
                ORDER BY 1 LIMIT least(p_n, 256)) found
            JOIN audit.audit_logs l ON l.event_id = found.event_id AND l.tenant_id = own.tenant_id ORDER BY l.seq;
    END IF;
END $$;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
