SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
ALTER TABLE app.evidence DROP CONSTRAINT evidence_documents_check;
ALTER TABLE app.evidence ADD CONSTRAINT evidence_documents_check CHECK (documents BETWEEN 0 AND 1000);
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
    IF cardinality(there) > 1000 THEN
        RAISE EXCEPTION 'more documents than a package takes' USING ERRCODE = '22023';
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
SET LOCAL ROLE cordon_audit_definer;

DROP FUNCTION audit.evidence_events(uuid[]);

-- Those of these events that the package holds, up to 256.
CREATE FUNCTION audit.evidence_rows(p_event_ids uuid[]) RETURNS TABLE (seq bigint, event bytea, receipt_of uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own      app.evidence := keys.own_evidence();
    sources  uuid[] := ARRAY(SELECT s.document_id FROM app.evidence_sources s WHERE s.tenant_id = own.tenant_id AND s.evidence_id = own.id);
BEGIN
    RETURN QUERY SELECT l.seq, l.event, CASE WHEN l.action = 'answer.receipt' THEN l.resource_id END FROM audit.audit_logs l
        WHERE l.event_id = ANY (p_event_ids[1:256]) AND l.tenant_id = own.tenant_id
          AND CASE WHEN own.from_at IS NOT NULL THEN l.recorded_at >= own.from_at AND l.recorded_at < own.to_at
              ELSE l.document_ids && sources OR (l.action = 'answer.receipt' AND EXISTS (SELECT FROM audit.audit_logs a
                  WHERE a.tenant_id = own.tenant_id AND a.resource_id = l.resource_id AND a.action = 'answer.disclose' AND a.document_ids && sources)) END
        ORDER BY l.seq;
END $$;

CREATE FUNCTION audit.evidence_events(p_event_ids uuid[]) RETURNS TABLE (seq bigint, event bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.seq, r.event FROM audit.evidence_rows(p_event_ids) r
$$;

-- Receipts whose digest one of these events of the package holds.
CREATE FUNCTION audit.evidence_receipts(p_event_ids uuid[]) RETURNS TABLE (body text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.body FROM audit.evidence_rows(p_event_ids) r JOIN app.receipts c ON c.tenant_id = authz.tenant() AND c.answer_id = r.receipt_of ORDER BY r.seq
$$;

GRANT EXECUTE ON FUNCTION audit.evidence_events(uuid[]), audit.evidence_receipts(uuid[]) TO cordon_ingest;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
RESET ROLE;
