-- Packages of evidence: the documents, events and receipts of a case in one archive that the log vouches for.
--
-- A package is a document, of type application/x-tar: sealed under a key of its own, with the labels of everything in it, and
-- under the same rules for reading, deletion, holds and erasure. Beside it stands what it was made from. Nobody without
-- evidence:manage sees or opens one. It ends with any of its sources.

SET LOCAL ROLE cordon_owner;

INSERT INTO auth.scopes (name, realm, needs_step_up) VALUES ('evidence:manage', 'tenant', false);
INSERT INTO auth.role_scopes (role, scope) VALUES ('admin', 'evidence:manage');

CREATE TABLE app.evidence (
    tenant_id    uuid NOT NULL,
    id           uuid NOT NULL,                     -- the package's document
    job_id       uuid NOT NULL,
    reason_code  text NOT NULL CHECK (reason_code IN ('litigation', 'investigation', 'audit', 'patient_request')),
    reference    text NOT NULL CHECK (reference ~ '^[A-Za-z0-9._:/-]{0,64}$'),      -- a case number; no names
    subject_id   uuid,
    from_at      timestamptz,                       -- with a span: every event of it, instead of those about the documents
    to_at        timestamptz,
    documents    integer NOT NULL CHECK (documents BETWEEN 0 AND 256),
    created_by   uuid NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    manifest     bytea CHECK (octet_length(manifest) = 32),     -- SHA-256 of what the event evidence.seal vouches for
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, id) REFERENCES app.documents (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, created_by) REFERENCES auth.users (tenant_id, id),
    CHECK ((from_at IS NULL) = (to_at IS NULL)),
    CHECK (to_at > from_at)
);
CREATE INDEX evidence_expiry ON app.evidence (expires_at);
CREATE TABLE app.evidence_sources (
    tenant_id    uuid NOT NULL,
    evidence_id  uuid NOT NULL,
    document_id  uuid NOT NULL,
    PRIMARY KEY (tenant_id, evidence_id, document_id),
    FOREIGN KEY (tenant_id, evidence_id) REFERENCES app.evidence (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, document_id) REFERENCES app.documents (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX evidence_sources_document ON app.evidence_sources (tenant_id, document_id);

ALTER TABLE app.evidence ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.evidence FORCE ROW LEVEL SECURITY;
ALTER TABLE app.evidence_sources ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.evidence_sources FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON app.evidence TO cordon_keys_definer USING (true) WITH CHECK (true);
CREATE POLICY definer ON app.evidence_sources TO cordon_keys_definer USING (true) WITH CHECK (true);
CREATE POLICY audit_definer_reads ON app.evidence FOR SELECT TO cordon_audit_definer USING (true);
CREATE POLICY audit_definer_reads ON app.evidence_sources FOR SELECT TO cordon_audit_definer USING (true);
CREATE POLICY audit_definer_reads ON app.receipts FOR SELECT TO cordon_audit_definer USING (true);
CREATE POLICY audit_definer_reads ON audit.document_events FOR SELECT TO cordon_audit_definer USING (true);
CREATE POLICY query_reads ON app.evidence FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('evidence:manage')));
CREATE POLICY query_reads ON app.evidence_sources FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('evidence:manage')));
GRANT SELECT, INSERT, UPDATE (manifest) ON app.evidence TO cordon_keys_definer;
GRANT SELECT, INSERT ON app.evidence_sources TO cordon_keys_definer;
GRANT SELECT ON app.evidence, app.evidence_sources TO cordon_audit_definer, cordon_query;
GRANT SELECT (tenant_id, answer_id, body) ON app.receipts TO cordon_audit_definer;
GRANT SELECT ON audit.document_events TO cordon_audit_definer;
GRANT SELECT (recorded_at, occurred_at, document_ids) ON audit.audit_logs TO cordon_audit_definer;
GRANT SELECT (action) ON audit.audit_logs TO cordon_keys_definer;

GRANT SELECT (content_type, bytes, labels, created_by, created_at), UPDATE (labels, bytes) ON app.documents TO cordon_keys_definer;
CREATE POLICY keys_definer_packs ON app.documents FOR UPDATE TO cordon_keys_definer
    USING (content_type = 'application/x-tar') WITH CHECK (content_type = 'application/x-tar');
CREATE POLICY packages ON app.documents AS RESTRICTIVE FOR SELECT TO cordon_query
    USING (content_type <> 'application/x-tar' OR (SELECT authz.may('evidence:manage')));
RESET ROLE;

------------------------------------------------------------------------------------------------- jobs

SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
RESET ROLE;
SET LOCAL ROLE cordon_jobs_definer;

CREATE OR REPLACE FUNCTION jobs.fail_document(own jobs.jobs, p_reason_code text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF own.kind IN ('ingest', 'evidence') THEN
        UPDATE app.documents d SET status = 'failed', reason_code = p_reason_code
            WHERE d.tenant_id = own.tenant_id AND d.id = own.document_id AND d.status = 'processing';
        IF FOUND THEN           -- the vectors go with their chunks
            DELETE FROM app.chunks k WHERE k.tenant_id = own.tenant_id AND k.document_id = own.document_id;
        END IF;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION jobs.retry(job_id uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  jobs.jobs := jobs.of_tenant(retry.job_id);
BEGIN
    IF own.state IS NULL OR own.state NOT IN ('dead', 'cancelled') THEN
        RETURN own.state;
    END IF;
    IF own.kind IN ('ingest', 'evidence') THEN
        UPDATE app.documents d SET status = 'processing', reason_code = NULL
            WHERE d.tenant_id = own.tenant_id AND d.id = own.document_id AND d.status = 'failed';
    END IF;
    IF own.document_id <> '00000000-0000-0000-0000-000000000000' THEN
        PERFORM jobs.hold_document(own.tenant_id, own.document_id);
    END IF;
    UPDATE jobs.jobs j SET state = 'queued', reason_code = NULL, cancel_requested_at = NULL, done_at = NULL, run_after = clock_timestamp(),
            stage = NULL, attempt = 0, outages = 0, outage_since = NULL, pages_done = 0, chunks_done = 0, chunks_total = NULL
        WHERE j.seq = own.seq;
    PERFORM pg_notify('jobs_' || own.queue, '');
    RETURN 'queued';
END $$;

-- The erasure of a package, for functions of cordon_keys_definer, which have checked that it is due: asked for by a person
-- or by nobody, when its time is over.
CREATE FUNCTION jobs.enqueue_erasure(p_tenant_id uuid, p_job_id uuid, p_user_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id, priority, max_attempts)
        VALUES (p_tenant_id, p_job_id, 'ingest', 'erase', '00000000-0000-0000-0000-000000000000', p_user_id, 60, 100);
    PERFORM pg_notify('jobs_ingest', '');
END $$;
GRANT EXECUTE ON FUNCTION jobs.enqueue_erasure(uuid, uuid, uuid) TO cordon_keys_definer;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA jobs FROM cordon_jobs_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;

------------------------------------------------------------------------------------------------- making one

SET LOCAL ROLE cordon_keys_definer;

-- What the package, a document that this transaction has just added, is made from: documents, all of a patient's, or a span
-- of the log, each as far as the ticket's holder may see it. How many documents. 23503: one is not there, or not for him.
CREATE FUNCTION keys.begin_evidence(evidence_id uuid, job_id uuid, document_ids uuid[], subject_id uuid, from_at timestamptz, to_at timestamptz,
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

-- The package that the ticket's job makes.
CREATE FUNCTION keys.own_evidence() RETURNS app.evidence
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c    authz.claims := authz.current_claims();
    own  app.evidence;
BEGIN
    SELECT e.* INTO own FROM app.evidence e JOIN app.documents d ON d.tenant_id = e.tenant_id AND d.id = e.id AND d.status = 'processing'
        WHERE c.kind = 'job' AND 'job:evidence' = ANY (c.scopes) AND e.tenant_id = c.tenant_id AND e.id = c.document_id AND e.job_id = c.job_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not a package that is being made' USING ERRCODE = '42501';
    END IF;
    RETURN own;
END $$;

CREATE FUNCTION keys.evidence_sources() RETURNS TABLE (document_id uuid, content_type text, bytes bigint, subject_id uuid, labels text[], created_by uuid,
                                                       created_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own  app.evidence := keys.own_evidence();
BEGIN
    RETURN QUERY SELECT d.id, d.content_type, d.bytes, d.subject_id, d.labels, d.created_by, d.created_at
        FROM app.evidence_sources s JOIN app.documents d ON d.tenant_id = s.tenant_id AND d.id = s.document_id
        WHERE s.tenant_id = own.tenant_id AND s.evidence_id = own.id AND d.status <> 'deleted' ORDER BY d.id;
END $$;

-- Keys of the package's sources that the event names: one of this very job's ticket, on record, as keys.open() wants it.
CREATE FUNCTION keys.open_evidence(event_id uuid) RETURNS TABLE (document_id uuid, version integer, wrapped bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own    app.evidence := keys.own_evidence();
    named  uuid[];
BEGIN
    SELECT l.document_ids INTO named FROM audit.audit_logs l
        WHERE l.event_id = open_evidence.event_id AND l.tenant_id = own.tenant_id AND l.kind = 'disclosure' AND l.outcome = 'success'
          AND l.action = 'evidence.disclose' AND l.ticket_digest = sha256(convert_to(current_setting('authz.ticket'), 'UTF8'))
          AND l.recorded_at > clock_timestamp() - interval '5 min';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'keys.open_evidence: no disclosure on record' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT DISTINCT ON (k.document_id) k.document_id, k.version, k.wrapped
        FROM keys.document_keys k JOIN app.documents d ON d.tenant_id = k.tenant_id AND d.id = k.document_id
        JOIN app.evidence_sources s ON s.tenant_id = k.tenant_id AND s.evidence_id = own.id AND s.document_id = k.document_id
        WHERE k.tenant_id = own.tenant_id AND k.document_id = ANY (named) AND d.status <> 'deleted'
        ORDER BY k.document_id, k.version DESC;
END $$;

CREATE OR REPLACE FUNCTION keys.job_document_key() RETURNS TABLE (version integer, wrapped bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims := authz.current_claims();
BEGIN
    IF (c.kind = 'job' AND ('job:ingest' = ANY (c.scopes) OR 'job:evidence' = ANY (c.scopes))) IS NOT TRUE THEN
        RAISE EXCEPTION 'not a job' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT k.version, k.wrapped FROM keys.document_keys k
        JOIN app.documents d ON d.tenant_id = k.tenant_id AND d.id = k.document_id AND d.status = 'processing'
        WHERE k.tenant_id = c.tenant_id AND k.document_id = c.document_id ORDER BY k.version DESC LIMIT 1;
END $$;

-- As before; and packages are for those who may have them.
CREATE OR REPLACE FUNCTION keys.open(event_id uuid) RETURNS TABLE (document_id uuid, version integer, wrapped bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    home   uuid := authz.tenant();      -- raises unless this transaction entered with the ticket below
    named  uuid[];
BEGIN
    SELECT l.document_ids INTO named FROM audit.audit_logs l
        WHERE l.event_id = open.event_id AND l.tenant_id = home AND l.kind = 'disclosure' AND l.outcome = 'success'
          AND l.ticket_digest = sha256(convert_to(current_setting('authz.ticket'), 'UTF8'))
          AND l.recorded_at > clock_timestamp() - interval '5 min';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'keys.open: no disclosure on record' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT DISTINCT ON (k.document_id) k.document_id, k.version, k.wrapped
        FROM keys.document_keys k JOIN app.documents d ON d.tenant_id = k.tenant_id AND d.id = k.document_id
        WHERE k.tenant_id = home AND k.document_id = ANY (named) AND d.status <> 'deleted'
          AND (d.content_type <> 'application/x-tar' OR authz.may('evidence:manage'))
          AND k.document_id NOT IN (SELECT authz.hidden_documents())
        ORDER BY k.document_id, k.version DESC;
END $$;

-- The manifest is done: its digest goes on the log with this.
CREATE FUNCTION keys.seal_evidence(manifest bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.evidence := keys.own_evidence();
BEGIN
    UPDATE app.evidence e SET manifest = seal_evidence.manifest WHERE e.tenant_id = own.tenant_id AND e.id = own.id;
END $$;

-- The archive is in the store, so many bytes of it: the package is ready, unless a source has gone meanwhile.
CREATE FUNCTION keys.finish_evidence(bytes bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own    app.evidence := keys.own_evidence();
    there  integer;
BEGIN
    SELECT count(*) INTO there FROM (SELECT FROM app.evidence_sources s JOIN app.documents d ON d.tenant_id = s.tenant_id AND d.id = s.document_id
        WHERE s.tenant_id = own.tenant_id AND s.evidence_id = own.id AND d.status <> 'deleted' FOR SHARE OF d) x;
    IF there <> own.documents OR own.manifest IS NULL THEN
        RAISE EXCEPTION 'a source is gone' USING ERRCODE = '23503';
    END IF;
    UPDATE app.documents d SET status = 'ready', bytes = finish_evidence.bytes WHERE d.tenant_id = own.tenant_id AND d.id = own.id;
    PERFORM jobs.complete();
END $$;

------------------------------------------------------------------------------------------------- ending one

CREATE FUNCTION keys.erase_package(own app.evidence, p_erasure_id uuid, p_user_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM app.documents d WHERE d.tenant_id = own.tenant_id AND d.id = own.id FOR NO KEY UPDATE;
    IF EXISTS (SELECT FROM app.erasure_items i WHERE i.tenant_id = own.tenant_id AND i.id = own.id) THEN
        RAISE EXCEPTION 'no such package' USING ERRCODE = '23503';
    END IF;
    IF keys.is_held(own.tenant_id, own.id, NULL) THEN
        RAISE EXCEPTION 'the package is under a legal hold' USING ERRCODE = 'CH001';
    END IF;
    INSERT INTO app.erasures (tenant_id, id, reason_code, reference, requested_by) VALUES (own.tenant_id, p_erasure_id, 'retention_over', '', p_user_id);
    INSERT INTO app.erasure_items (tenant_id, erasure_id, kind, id) VALUES (own.tenant_id, p_erasure_id, 'document', own.id);
    UPDATE app.documents d SET status = 'deleted', reason_code = NULL, deleted_at = clock_timestamp()
        WHERE d.tenant_id = own.tenant_id AND d.id = own.id AND d.status <> 'deleted';
    PERFORM jobs.enqueue_erasure(own.tenant_id, p_erasure_id, p_user_id);
END $$;

-- Somebody wants it gone: for readers when this commits, for good when the erasure is done. 23503: there is no such.
CREATE FUNCTION keys.end_evidence(evidence_id uuid, erasure_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := keys.home_for('evidence:manage');
    own   app.evidence;
BEGIN
    SELECT e.* INTO own FROM app.evidence e WHERE e.tenant_id = home AND e.id = end_evidence.evidence_id AND e.id NOT IN (SELECT authz.hidden_documents());
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such package' USING ERRCODE = '23503';
    END IF;
    PERFORM keys.erase_package(own, end_evidence.erasure_id, authz.user_id());
END $$;

-- Up to n packages whose time is over, or that have lost a source, and that no hold keeps; how many.
CREATE FUNCTION keys.expire_evidence(n integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own   app.evidence;
    gone  integer := 0;
BEGIN
    FOR own IN SELECT e.* FROM app.evidence e JOIN app.documents d ON d.tenant_id = e.tenant_id AND d.id = e.id
        WHERE (e.expires_at < clock_timestamp() OR d.status = 'deleted') AND NOT keys.is_held(e.tenant_id, e.id, NULL)
          AND NOT EXISTS (SELECT FROM app.erasure_items i WHERE i.tenant_id = e.tenant_id AND i.id = e.id)
        ORDER BY e.expires_at LIMIT least(greatest(expire_evidence.n, 0), 100) FOR NO KEY UPDATE OF d SKIP LOCKED
    LOOP
        PERFORM keys.erase_package(own, authz.uuid_v7(), own.created_by);
        gone := gone + 1;
    END LOOP;
    RETURN gone;
END $$;

-- A package ends with any of its sources, and hides with them.
CREATE FUNCTION keys.packages_follow() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.status = 'deleted' AND OLD.status <> 'deleted' THEN
        UPDATE app.documents d SET status = 'deleted', reason_code = NULL, deleted_at = clock_timestamp()
            WHERE d.tenant_id = NEW.tenant_id AND d.status <> 'deleted' AND d.id IN (SELECT keys.packages_of(NEW.tenant_id, ARRAY[NEW.id]));
    ELSIF NOT NEW.labels <@ OLD.labels THEN
        UPDATE app.documents d SET labels = d.labels || NEW.labels
            WHERE d.tenant_id = NEW.tenant_id AND d.id IN (SELECT keys.packages_of(NEW.tenant_id, ARRAY[NEW.id])) AND NOT NEW.labels <@ d.labels;
    END IF;
    RETURN NULL;
END $$;

GRANT EXECUTE ON FUNCTION keys.packages_follow() TO cordon_owner;
GRANT EXECUTE ON FUNCTION keys.begin_evidence(uuid, uuid, uuid[], uuid, timestamptz, timestamptz, text, text, integer), keys.evidence_sources(),
    keys.open_evidence(uuid), keys.seal_evidence(bytea), keys.finish_evidence(bigint), keys.end_evidence(uuid, uuid) TO cordon_ingest;
GRANT EXECUTE ON FUNCTION keys.expire_evidence(integer) TO cordon_jobs;
GRANT EXECUTE ON FUNCTION keys.own_evidence() TO cordon_audit_definer;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
GRANT USAGE ON SCHEMA keys TO cordon_audit_definer, cordon_jobs;
CREATE TRIGGER packages_follow AFTER UPDATE OF status, labels ON app.documents FOR EACH ROW
    WHEN ((NEW.status = 'deleted' AND OLD.status <> 'deleted') OR NEW.labels <> OLD.labels) EXECUTE FUNCTION keys.packages_follow();
ALTER TABLE app.documents ENABLE ALWAYS TRIGGER packages_follow;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;

------------------------------------------------------------------------------------------------- the log's part

SET LOCAL ROLE cordon_audit_definer;

CREATE FUNCTION audit.on_evidence() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM audit.record('evidence.create', NEW.tenant_id, NEW.id, ARRAY[NEW.id],
            jsonb_build_object('documents', NEW.documents, 'subject_id', NEW.subject_id, 'reason', NEW.reason_code, 'reference', nullif(NEW.reference, ''),
                               'from_us', (extract(epoch FROM NEW.from_at) * 1000000)::bigint, 'to_us', (extract(epoch FROM NEW.to_at) * 1000000)::bigint));
    ELSIF NEW.manifest IS DISTINCT FROM OLD.manifest THEN
        PERFORM audit.record('evidence.seal', NEW.tenant_id, NEW.id, ARRAY[NEW.id], jsonb_build_object('manifest', encode(NEW.manifest, 'hex')));
    END IF;
    RETURN NULL;
END $$;

-- Answers that were made from the package's documents.
CREATE FUNCTION audit.evidence_answers(own app.evidence) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT l.resource_id FROM app.evidence_sources s
        JOIN audit.document_events d ON d.tenant_id = s.tenant_id AND d.document_id = s.document_id
        JOIN audit.audit_logs l ON l.tenant_id = d.tenant_id AND l.seq = d.seq AND l.event_id = d.event_id AND l.action = 'answer.disclose'
        WHERE s.tenant_id = own.tenant_id AND s.evidence_id = own.id
$$;

-- Up to n events of the package behind p_after, of the first p_size of the log: all of its span, or those that name its
-- documents or hold receipts of answers made from them.
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
        RETURN QUERY SELECT l.seq, l.event FROM audit.audit_logs l WHERE l.tenant_id = own.tenant_id AND l.seq > p_after AND l.seq < p_size
            AND (l.seq IN (SELECT d.seq FROM audit.document_events d JOIN app.evidence_sources s ON s.tenant_id = d.tenant_id AND s.document_id = d.document_id
                           WHERE s.tenant_id = own.tenant_id AND s.evidence_id = own.id)
                 OR (l.action = 'answer.receipt' AND l.resource_id IN (SELECT audit.evidence_answers(own))))
            ORDER BY l.seq LIMIT least(p_n, 256);
    END IF;
END $$;

-- Receipts of which an event of the package, among the first p_size of the log, holds the digest.
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

-- The event that holds the manifest's digest, once it is on the log.
CREATE FUNCTION audit.evidence_seal() RETURNS TABLE (seq bigint, event bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.evidence := keys.own_evidence();
BEGIN
    RETURN QUERY SELECT l.seq, l.event FROM audit.audit_logs l
        WHERE l.tenant_id = own.tenant_id AND l.resource_id = own.id AND l.action = 'evidence.seal'
          AND position(encode(own.manifest, 'hex') IN convert_from(l.event, 'UTF8')) > 0
        ORDER BY l.seq DESC LIMIT 1;
END $$;

-- What was done with a package, by whom and when: its chain of custody, oldest first.
CREATE FUNCTION audit.evidence_custody(p_evidence_id uuid) RETURNS TABLE (seq bigint, action text, actor_id uuid, occurred_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := authz.tenant();
BEGIN
    IF home IS NULL OR authz.may('evidence:manage') IS NOT TRUE THEN
        RAISE EXCEPTION 'evidence:manage is missing' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT l.seq, l.action, l.actor_id, l.occurred_at
        FROM audit.document_events d JOIN audit.audit_logs l ON l.tenant_id = d.tenant_id AND l.seq = d.seq AND l.event_id = d.event_id
        WHERE d.tenant_id = home AND d.document_id = p_evidence_id AND EXISTS (SELECT FROM app.evidence e WHERE e.tenant_id = home AND e.id = p_evidence_id)
        ORDER BY l.seq LIMIT 1000;
END $$;

GRANT EXECUTE ON FUNCTION audit.on_evidence() TO cordon_owner;
GRANT EXECUTE ON FUNCTION audit.evidence_custody(uuid) TO cordon_audit_reader;
GRANT EXECUTE ON FUNCTION audit.tree_hashes(integer, bigint, integer), audit.find_checkpoint(bigint, boolean), audit.evidence_events(bigint, bigint, integer),
    audit.evidence_receipts(uuid, bigint, integer), audit.evidence_seal() TO cordon_ingest;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON app.evidence FOR EACH ROW EXECUTE FUNCTION audit.on_evidence();
ALTER TABLE app.evidence ENABLE ALWAYS TRIGGER audit;
RESET ROLE;
