SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;

SET LOCAL ROLE cordon_audit_definer;

DROP FUNCTION audit.evidence_pages(bigint, bigint), audit.evidence_events(uuid[]), audit.evidence_receipts(uuid[]), audit.evidence_rows(uuid[]), audit.evidence_order(),
    audit.place_of(uuid, bigint, timestamptz);

CREATE OR REPLACE FUNCTION audit.due_heads()
RETURNS TABLE (tenant_id uuid, size bigint, root bytea, behind bigint, signed_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.tenant_id, h.size, h.root, h.size - coalesce(c.size, 0),
           coalesce((extract(epoch FROM clock_timestamp() - c.signed_at) * 1000)::bigint, 9223372036854775807)
        FROM audit.audit_heads h LEFT JOIN LATERAL (
            SELECT k.size, k.signed_at FROM audit.checkpoints k WHERE k.tenant_id = h.tenant_id ORDER BY k.size DESC LIMIT 1) c ON true
        WHERE h.size > coalesce(c.size, 0) ORDER BY h.tenant_id
$$;

DROP FUNCTION audit.is_head_awaited(uuid, bigint);

CREATE FUNCTION audit.evidence_events(p_after bigint, p_size bigint, p_n integer) RETURNS TABLE (seq bigint, event bytea)
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

CREATE FUNCTION audit.evidence_receipts(p_after uuid, p_size bigint, p_n integer) RETURNS TABLE (answer_id uuid, body text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own  app.evidence := keys.own_evidence();
BEGIN
    RETURN QUERY SELECT r.answer_id, r.body FROM app.receipts r JOIN audit.audit_logs l ON l.tenant_id = r.tenant_id AND l.resource_id = r.answer_id
            AND l.action = 'answer.receipt' AND l.seq < p_size
        WHERE r.tenant_id = own.tenant_id AND r.answer_id > p_after
          AND CASE WHEN own.from_at IS NULL THEN r.answer_id IN (SELECT audit.evidence_answers(own))
                   ELSE l.recorded_at >= own.from_at AND l.recorded_at < own.to_at END
        ORDER BY r.answer_id LIMIT least(p_n, 64);
END $$;

GRANT EXECUTE ON FUNCTION audit.evidence_events(bigint, bigint, integer), audit.evidence_receipts(uuid, bigint, integer) TO cordon_ingest;

RESET ROLE;
SET LOCAL ROLE cordon_keys_definer;

CREATE OR REPLACE FUNCTION keys.begin_evidence(evidence_id uuid, job_id uuid, document_ids uuid[], subject_id uuid, from_at timestamptz, to_at timestamptz,
                                    reason_code text, reference text, days integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home    uuid := keys.home_for('evidence:manage');
    wanted  uuid[] := ARRAY(SELECT DISTINCT w FROM unnest(begin_evidence.document_ids) w);
    there   uuid[];
BEGIN
    IF begin_evidence.subject_id IS NOT NULL THEN
        PERFORM FROM app.subjects s WHERE s.tenant_id = home AND s.id = begin_evidence.subject_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no such patient' USING ERRCODE = '23503';
        END IF;
        wanted := ARRAY(SELECT d.id FROM app.documents d WHERE d.tenant_id = home AND d.subject_id = begin_evidence.subject_id AND d.status <> 'deleted' AND d.content_type <> 'application/x-tar'
                        AND d.id NOT IN (SELECT authz.hidden_documents()));
    END IF;
    there := ARRAY(SELECT d.id FROM app.documents d WHERE d.tenant_id = home AND d.id = ANY (wanted) AND d.status <> 'deleted'
                   AND d.content_type <> 'application/x-tar' AND d.id NOT IN (SELECT authz.hidden_documents()) ORDER BY d.id FOR NO KEY UPDATE);
    IF cardinality(there) <> cardinality(wanted) THEN
        RAISE EXCEPTION 'no such document' USING ERRCODE = '23503';
    END IF;
    INSERT INTO app.evidence (tenant_id, id, job_id, reason_code, reference, subject_id, from_at, to_at, documents, created_by, expires_at)
        VALUES (home, begin_evidence.evidence_id, begin_evidence.job_id, begin_evidence.reason_code, begin_evidence.reference, begin_evidence.subject_id,
                begin_evidence.from_at, begin_evidence.to_at, cardinality(there), authz.user_id(),
                now() + least(greatest(begin_evidence.days, 1), 3650) * interval '1 day');
    INSERT INTO app.evidence_sources (tenant_id, evidence_id, document_id) SELECT home, begin_evidence.evidence_id, t FROM unnest(there) t;
    UPDATE app.documents p SET labels = ARRAY(SELECT DISTINCT l FROM app.documents d, unnest(d.labels) l WHERE d.tenant_id = home AND d.id = ANY (there))
        WHERE p.tenant_id = home AND p.id = begin_evidence.evidence_id AND p.content_type = 'application/x-tar';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such package' USING ERRCODE = '23503';
    END IF;
    RETURN cardinality(there);
END $$;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
ALTER TABLE app.evidence DROP CONSTRAINT evidence_documents_check;
ALTER TABLE app.evidence ADD CONSTRAINT evidence_documents_check CHECK (documents BETWEEN 0 AND 256) NOT VALID;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
RESET ROLE;
