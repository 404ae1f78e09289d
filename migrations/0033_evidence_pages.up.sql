-- Packages of evidence of any size that they may have: what one holds of the log is looked up once for 65,536 events and then read
-- page by page by the events' ids; a span of the log is found by halving; and the head that a package waits for is signed at once.

SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
ALTER TABLE app.evidence DROP CONSTRAINT evidence_documents_check;
ALTER TABLE app.evidence ADD CONSTRAINT evidence_documents_check CHECK (documents BETWEEN 0 AND 1000);
RESET ROLE;

SET LOCAL ROLE cordon_keys_definer;

-- As before; one that is too big is said to be.
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

DROP FUNCTION audit.evidence_events(bigint, bigint, integer), audit.evidence_receipts(uuid, bigint, integer);

-- The first place in the log whose event was recorded at that time or later, of its first p_size. Times of recording grow with
-- the places, but for the seconds that clocks and writers are apart.
CREATE FUNCTION audit.place_of(p_tenant_id uuid, p_size bigint, p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    low     bigint := 0;
    high    bigint := p_size;
    middle  bigint;
    found   timestamptz;
BEGIN
    WHILE low < high LOOP
        middle := (low + high) / 2;
        SELECT l.recorded_at INTO found FROM audit.audit_logs l WHERE l.tenant_id = p_tenant_id AND l.seq = middle;
        IF found < p_at THEN
            low := middle + 1;
        ELSE
            high := middle;
        END IF;
    END LOOP;
    RETURN low;
END $$;

-- Which events of the first p_size of the log the package holds, behind p_after: all of its span, or those that name its documents
-- or hold receipts of answers made from them. Up to 256 pages of 256 ids, as an array's text; last: the place of a page's last.
CREATE FUNCTION audit.evidence_pages(p_after bigint, p_size bigint) RETURNS TABLE (last bigint, event_ids text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own   app.evidence := keys.own_evidence();
    low   bigint;
    high  bigint;
BEGIN
    IF own.from_at IS NOT NULL THEN
        low := greatest(p_after + 1, audit.place_of(own.tenant_id, p_size, own.from_at - interval '1 min'));
        high := audit.place_of(own.tenant_id, p_size, own.to_at + interval '1 min');
        RETURN QUERY SELECT max(x.seq), array_agg(x.event_id ORDER BY x.seq)::text FROM (
                SELECT l.seq, l.event_id, (row_number() OVER (ORDER BY l.seq) - 1) / 256 AS page FROM audit.audit_logs l
                    WHERE l.tenant_id = own.tenant_id AND l.seq >= low AND l.seq < high AND l.recorded_at >= own.from_at AND l.recorded_at < own.to_at
                    ORDER BY l.seq LIMIT 65536) x
            GROUP BY x.page ORDER BY x.page;
    ELSE
        RETURN QUERY SELECT max(x.seq), array_agg(x.event_id ORDER BY x.seq)::text FROM (
                SELECT f.seq, f.event_id, (row_number() OVER (ORDER BY f.seq) - 1) / 256 AS page FROM (
                        SELECT d.seq, d.event_id FROM app.evidence_sources s
                            JOIN audit.document_events d ON d.tenant_id = s.tenant_id AND d.document_id = s.document_id
                            WHERE s.tenant_id = own.tenant_id AND s.evidence_id = own.id AND d.seq > p_after AND d.seq < p_size
                        UNION
                        SELECT r.seq, r.event_id FROM audit.evidence_answers(own) a JOIN audit.audit_logs r ON r.tenant_id = own.tenant_id AND r.resource_id = a
                            WHERE r.action = 'answer.receipt' AND r.seq > p_after AND r.seq < p_size) f
                    ORDER BY f.seq LIMIT 65536) x
            GROUP BY x.page ORDER BY x.page;
    END IF;
END $$;

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

-- The place of the order's event, once it is on the log: what a package holds ends behind it.
CREATE FUNCTION audit.evidence_order() RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.evidence := keys.own_evidence();
BEGIN
    RETURN (SELECT l.seq FROM audit.audit_logs l WHERE l.tenant_id = own.tenant_id AND l.resource_id = own.id AND l.action = 'evidence.create');
END $$;

-- Does somebody wait for a head of this log that covers more than its first p_size events? A package does: for its order, and for
-- its manifest. Nobody is asked for it: the events that a package is proven by are on the log, and say so by being there.
CREATE FUNCTION audit.is_head_awaited(p_tenant_id uuid, p_size bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM app.evidence e JOIN audit.audit_logs l ON l.tenant_id = e.tenant_id AND l.resource_id = e.id
        WHERE e.tenant_id = p_tenant_id AND e.created_at > clock_timestamp() - interval '1 day' AND l.action IN ('evidence.create', 'evidence.seal') AND l.seq >= p_size
          AND l.event_id >= audit.month_floor(date_trunc('month', timezone('UTC', clock_timestamp()) - interval '1 day')::date))
$$;

-- As before; a head that somebody waits for has waited long enough.
CREATE OR REPLACE FUNCTION audit.due_heads()
RETURNS TABLE (tenant_id uuid, size bigint, root bytea, behind bigint, signed_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.tenant_id, h.size, h.root, h.size - coalesce(c.size, 0),
           CASE WHEN c.signed_at IS NULL OR audit.is_head_awaited(h.tenant_id, c.size) THEN 9223372036854775807
                ELSE (extract(epoch FROM clock_timestamp() - c.signed_at) * 1000)::bigint END
        FROM audit.audit_heads h LEFT JOIN LATERAL (
            SELECT k.size, k.signed_at FROM audit.checkpoints k WHERE k.tenant_id = h.tenant_id ORDER BY k.size DESC LIMIT 1) c ON true
        WHERE h.size > coalesce(c.size, 0) ORDER BY h.tenant_id
$$;

GRANT EXECUTE ON FUNCTION audit.evidence_pages(bigint, bigint), audit.evidence_events(uuid[]), audit.evidence_receipts(uuid[]), audit.evidence_order() TO cordon_ingest;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
RESET ROLE;
