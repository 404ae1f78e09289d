-- Legal holds, erasure, and the rotation of tenant keys (ADR 0023).
--
-- An erasure is a row of app.erasures, one item for each document and conversation that it ends, and a job. Each item goes
-- one way, step by step: what a state says has happened is committed and on the record before the next effect begins.
-- Tenant-wide work is a job about no document: its document_id is nil, so its ticket opens none.

SET LOCAL ROLE cordon_owner;

INSERT INTO auth.scopes (name, realm, needs_step_up) VALUES
    ('holds:manage', 'tenant', false), ('erasures:manage', 'tenant', false), ('keys:manage', 'tenant', false);
INSERT INTO auth.role_scopes (role, scope) VALUES ('admin', 'holds:manage'), ('admin', 'erasures:manage'), ('admin', 'keys:manage');

------------------------------------------------------------------------------------------------- holds

CREATE TABLE app.holds (
    tenant_id    uuid NOT NULL REFERENCES auth.tenants,
    id           uuid NOT NULL,
    document_id  uuid,          -- one of the two: a document, or everything about a patient, now and later
    subject_id   uuid,
    reason_code  text NOT NULL CHECK (reason_code IN ('litigation', 'investigation', 'audit', 'preservation')),
    reference    text NOT NULL CHECK (reference ~ '^[A-Za-z0-9._:/-]{0,64}$'),      -- a case number; no names
    placed_by    uuid NOT NULL,
    placed_at    timestamptz NOT NULL DEFAULT now(),
    released_by  uuid,
    released_at  timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, placed_by) REFERENCES auth.users (tenant_id, id),
    FOREIGN KEY (tenant_id, released_by) REFERENCES auth.users (tenant_id, id),
    CHECK (num_nonnulls(document_id, subject_id) = 1),
    CHECK ((released_by IS NULL) = (released_at IS NULL))
);
CREATE INDEX holds_document ON app.holds (tenant_id, document_id) WHERE released_at IS NULL;
CREATE INDEX holds_subject ON app.holds (tenant_id, subject_id) WHERE released_at IS NULL;

------------------------------------------------------------------------------------------------- erasures

CREATE TABLE app.erasures (
    tenant_id     uuid NOT NULL REFERENCES auth.tenants,
    id            uuid NOT NULL,                    -- also its job's
    subject_id    uuid,                             -- the patient, when everything of one is erased
    reason_code   text NOT NULL CHECK (reason_code IN ('patient_request', 'retention_over', 'wrong_upload', 'contract_end', 'court_order')),
    reference     text NOT NULL CHECK (reference ~ '^[A-Za-z0-9._:/-]{0,64}$'),
    requested_by  uuid NOT NULL,
    requested_at  timestamptz NOT NULL DEFAULT now(),
    done_at       timestamptz,
    certificate   text CHECK (length(certificate) <= 1048576),      -- JSON; its SHA-256 is in the event erasure.complete
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, requested_by) REFERENCES auth.users (tenant_id, id),
    CHECK ((done_at IS NULL) = (certificate IS NULL))
);

CREATE TABLE app.erasure_moves (
    kind        text NOT NULL,
    from_state  text NOT NULL,
    to_state    text NOT NULL,
    PRIMARY KEY (kind, from_state)
);
INSERT INTO app.erasure_moves (kind, from_state, to_state) VALUES
    ('document',     'intended',         'share_destroyed'),        -- the second share of its key
    ('document',     'share_destroyed',  'objects_destroyed'),      -- every version of its original
    ('document',     'objects_destroyed', 'destroyed'),             -- its rows, and those of everything made of it
    ('conversation', 'intended',         'destroyed');              -- its rows went with the document's; its share now

-- Stays for ever: ids that were erased are not used again.
CREATE TABLE app.erasure_items (
    tenant_id   uuid NOT NULL,
    erasure_id  uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('document', 'conversation')),
    id          uuid NOT NULL,
    state       text NOT NULL DEFAULT 'intended' CHECK (state IN ('intended', 'share_destroyed', 'objects_destroyed', 'destroyed')),
    objects     integer NOT NULL DEFAULT 0 CHECK (objects >= 0),    -- versions and delete markers of its original
    rows        jsonb NOT NULL DEFAULT '{}',                        -- how many of each table went
    changed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, erasure_id) REFERENCES app.erasures (tenant_id, id)
);
CREATE INDEX erasure_items_open ON app.erasure_items (tenant_id, erasure_id) WHERE state <> 'destroyed';

------------------------------------------------------------------------------------------------- the end of a tenant

-- Two people of the platform agree, then an operator who holds another AWS identity than any process schedules the deletion
-- of the tenant's KMS key (cordon-offboard). What a state says is intended is committed before KMS hears of it.
CREATE TABLE auth.offboardings (
    tenant_id   uuid NOT NULL REFERENCES auth.tenants,
    id          uuid NOT NULL,
    state       text NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'intended', 'scheduled', 'cancel_intended', 'cancelled')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    delete_at   timestamptz,        -- when KMS deletes the key
    PRIMARY KEY (tenant_id, id),
    CHECK (state <> 'scheduled' OR delete_at IS NOT NULL)
);
CREATE UNIQUE INDEX offboardings_open ON auth.offboardings (tenant_id) WHERE state <> 'cancelled';
CREATE TABLE auth.offboarding_approvals (
    tenant_id       uuid NOT NULL,
    offboarding_id  uuid NOT NULL,
    user_id         uuid NOT NULL,          -- of the platform
    approved_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, offboarding_id, user_id),
    FOREIGN KEY (tenant_id, offboarding_id) REFERENCES auth.offboardings (tenant_id, id)
);
ALTER TABLE auth.offboardings ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.offboardings FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.offboarding_approvals ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.offboarding_approvals FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON auth.offboardings TO cordon_keys_definer USING (true) WITH CHECK (true);
CREATE POLICY definer ON auth.offboarding_approvals TO cordon_keys_definer USING (true) WITH CHECK (true);
CREATE POLICY keys_definer_ends ON auth.tenants TO cordon_keys_definer USING (true) WITH CHECK (true);
GRANT USAGE ON SCHEMA auth TO cordon_keys_definer;
GRANT SELECT, INSERT, UPDATE ON auth.offboardings TO cordon_keys_definer;
GRANT SELECT, INSERT ON auth.offboarding_approvals TO cordon_keys_definer;
GRANT SELECT (id, slug, status, kms_key_id), UPDATE (status, updated_at) ON auth.tenants TO cordon_keys_definer;

ALTER TABLE app.holds ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.holds FORCE ROW LEVEL SECURITY;
ALTER TABLE app.erasures ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.erasures FORCE ROW LEVEL SECURITY;
ALTER TABLE app.erasure_items ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.erasure_items FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON app.holds TO cordon_keys_definer USING (true) WITH CHECK (true);
CREATE POLICY definer ON app.erasures TO cordon_keys_definer USING (true) WITH CHECK (true);
CREATE POLICY definer ON app.erasure_items TO cordon_keys_definer USING (true) WITH CHECK (true);
CREATE POLICY query_reads ON app.holds FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('holds:manage')));
CREATE POLICY query_reads ON app.erasures FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('erasures:manage')));
CREATE POLICY query_reads ON app.erasure_items FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('erasures:manage')));
CREATE POLICY ingest_reads ON app.erasure_items FOR SELECT TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('documents:write')));
GRANT SELECT, INSERT, UPDATE ON app.holds, app.erasures, app.erasure_items TO cordon_keys_definer;
GRANT SELECT ON app.erasure_moves, app.document_moves TO cordon_keys_definer;
GRANT SELECT ON app.holds, app.erasures, app.erasure_items TO cordon_query;
GRANT SELECT (tenant_id, id, kind) ON app.erasure_items TO cordon_ingest;

-- What the eraser takes away. Rows that name a document by a foreign key with ON DELETE CASCADE go with it; a test walks
-- the schema for tables with ciphertext that neither this nor keys.erase_derived() reaches.
CREATE POLICY keys_definer_erases ON app.documents FOR DELETE TO cordon_keys_definer USING (status = 'deleted');
CREATE POLICY keys_definer_ends ON app.documents FOR UPDATE TO cordon_keys_definer USING (true) WITH CHECK (status = 'deleted');
ALTER TABLE app.subjects ADD COLUMN key_version integer NOT NULL DEFAULT 1 CHECK (key_version > 0);      -- of the tenant key that mrn_enc is under
GRANT INSERT (key_version) ON app.subjects TO cordon_ingest;
CREATE POLICY keys_definer_counts ON app.chunks FOR SELECT TO cordon_keys_definer USING (true);
CREATE POLICY keys_definer_erases ON app.subjects TO cordon_keys_definer USING (true);

GRANT SELECT (subject_id), UPDATE (status, reason_code, deleted_at), DELETE ON app.documents TO cordon_keys_definer;
GRANT SELECT (tenant_id, document_id) ON app.chunks TO cordon_keys_definer;
GRANT SELECT, UPDATE (mrn_enc, key_version), DELETE ON app.subjects TO cordon_keys_definer;
GRANT USAGE ON SCHEMA app, jobs TO cordon_keys_definer;
GRANT UPDATE (version, wrapped) ON keys.document_keys TO cordon_keys_definer;
GRANT UPDATE (version, wrapped) ON keys.conversation_keys TO cordon_keys_definer;
GRANT UPDATE (created_at), DELETE ON keys.tenant_keys TO cordon_keys_definer;     -- UPDATE: to lock a row

RESET ROLE;

------------------------------------------------------------------------------------------------- jobs about no document

SET LOCAL ROLE cordon_owner;
-- A job may be about none. Only jobs.enqueue_tenant() makes such; keys.erase_rows() removes the jobs of a document.
ALTER TABLE jobs.jobs DROP CONSTRAINT jobs_tenant_id_document_id_fkey;
GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
RESET ROLE;
SET LOCAL ROLE cordon_jobs_definer;

CREATE OR REPLACE FUNCTION jobs.progress(stage text, pages_done integer, chunks_done integer, chunks_total integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own       bigint := jobs.own_job();
    c         authz.claims := authz.current_claims();
    is_ahead  boolean;
BEGIN
    IF (c.document_id = '00000000-0000-0000-0000-000000000000') IS NOT TRUE THEN
        PERFORM jobs.hold_document(c.tenant_id, c.document_id);
    END IF;
    SELECT coalesce(progress.chunks_done > j.chunks_done, false) INTO STRICT is_ahead FROM jobs.jobs j WHERE j.seq = own;
    UPDATE jobs.jobs j SET stage = coalesce(progress.stage, j.stage), pages_done = coalesce(progress.pages_done, j.pages_done),
            chunks_done = coalesce(progress.chunks_done, j.chunks_done), chunks_total = coalesce(progress.chunks_total, j.chunks_total),
            attempt = CASE WHEN is_ahead THEN 1 ELSE j.attempt END,
            outages = CASE WHEN is_ahead THEN 0 ELSE j.outages END,
            outage_since = CASE WHEN is_ahead THEN NULL ELSE j.outage_since END
        WHERE j.seq = own;
END $$;

CREATE OR REPLACE FUNCTION jobs.retry(job_id uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  jobs.jobs := jobs.of_tenant(retry.job_id);
BEGIN
    IF own.state IS NULL OR own.state NOT IN ('dead', 'cancelled') THEN
        RETURN own.state;
    END IF;
    IF own.kind = 'ingest' THEN
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

-- Work on the ticket's tenant as a whole, for functions of cordon_keys_definer, which have checked who may want it. False:
-- such work is under way already.
CREATE FUNCTION jobs.enqueue_tenant(job_id uuid, kind text, is_alone boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nil  CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    c    authz.claims := authz.current_claims();
BEGIN
    IF (c.kind = 'user' AND c.tenant_id IS NOT NULL) IS NOT TRUE THEN
        RAISE EXCEPTION 'no tenant' USING ERRCODE = '42501';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(c.tenant_id::text || enqueue_tenant.kind, 1785684595));
    IF enqueue_tenant.is_alone AND EXISTS (SELECT FROM jobs.jobs j WHERE j.tenant_id = c.tenant_id AND j.kind = enqueue_tenant.kind
                                           AND j.state NOT IN ('succeeded', 'cancelled')) THEN
        RETURN false;
    END IF;
    INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id, priority, max_attempts)
        VALUES (c.tenant_id, enqueue_tenant.job_id, 'ingest', enqueue_tenant.kind, nil, c.user_id, 60, 100);
    PERFORM pg_notify('jobs_ingest', '');
    RETURN true;
END $$;

-- Jobs about a document that is being erased; how many.
CREATE FUNCTION jobs.forget_document(p_tenant_id uuid, p_document_id uuid) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (DELETE FROM jobs.jobs j WHERE j.tenant_id = p_tenant_id AND j.document_id = p_document_id RETURNING 1)
    SELECT count(*) FROM gone
$$;
GRANT EXECUTE ON FUNCTION jobs.enqueue_tenant(uuid, text, boolean), jobs.forget_document(uuid, uuid), jobs.complete() TO cordon_keys_definer;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA jobs FROM cordon_jobs_definer;

------------------------------------------------------------------------------------------------- audit

GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

CREATE OR REPLACE FUNCTION audit.on_job() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    what  text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        what := 'job.enqueue';
    ELSIF NEW.state <> OLD.state THEN
        what := CASE NEW.state WHEN 'succeeded' THEN 'job.complete' WHEN 'dead' THEN 'job.dead' WHEN 'cancelled' THEN 'job.cancel'
                               WHEN 'queued' THEN CASE WHEN OLD.state IN ('dead', 'cancelled') THEN 'job.retry' END END;
    ELSIF NEW.cancel_requested_at IS NOT NULL AND OLD.cancel_requested_at IS NULL THEN
        what := 'job.cancel.request';
    END IF;
    IF what IS NOT NULL THEN
        PERFORM audit.record(what, NEW.tenant_id, NEW.id, array_remove(ARRAY[NEW.document_id], '00000000-0000-0000-0000-000000000000'),
            jsonb_build_object('queue', NEW.queue, 'kind', NEW.kind)
            || CASE WHEN what = 'job.enqueue' THEN '{}'
                    WHEN what IN ('job.complete', 'job.dead') THEN jsonb_build_object('attempt', NEW.attempt, 'reason', NEW.reason_code)
                    ELSE jsonb_build_object('from', OLD.state) END);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_hold() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record(CASE TG_OP WHEN 'INSERT' THEN 'hold.place' ELSE 'hold.release' END, NEW.tenant_id, NEW.id,
        array_remove(ARRAY[NEW.document_id], NULL),
        jsonb_build_object('subject_id', NEW.subject_id, 'reason', NEW.reason_code, 'reference', nullif(NEW.reference, '')));
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_erasure() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM audit.record('erasure.request', NEW.tenant_id, NEW.id, '{}',
            jsonb_build_object('subject_id', NEW.subject_id, 'reason', NEW.reason_code, 'reference', nullif(NEW.reference, '')));
    ELSIF OLD.done_at IS NULL AND NEW.done_at IS NOT NULL THEN
        PERFORM audit.record('erasure.complete', NEW.tenant_id, NEW.id, '{}',
            jsonb_build_object('certificate', encode(sha256(convert_to(NEW.certificate, 'UTF8')), 'hex')));
    END IF;
    RETURN NULL;
END $$;

-- The intent first, and each effect once it was had.
CREATE FUNCTION audit.on_erasure_item() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('erasure.step', NEW.tenant_id, NEW.erasure_id, CASE NEW.kind WHEN 'document' THEN ARRAY[NEW.id] ELSE '{}' END,
        jsonb_build_object('kind', NEW.kind, 'state', NEW.state, 'conversation_id', CASE NEW.kind WHEN 'conversation' THEN NEW.id END,
                           'objects', CASE WHEN NEW.state = 'objects_destroyed' THEN NEW.objects END));
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_offboarding() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('tenant.offboard', NEW.tenant_id, NEW.id, '{}',
        jsonb_build_object('state', NEW.state, 'delete_at_us', (extract(epoch FROM NEW.delete_at) * 1000000)::bigint));
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_offboarding_approval() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('tenant.offboard.approve', NEW.tenant_id, NEW.offboarding_id, '{}', '{}');
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION audit.on_subject() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM audit.record('subject.erase', OLD.tenant_id, OLD.id, '{}', '{}');
    ELSE
        PERFORM audit.record('subject.create', NEW.tenant_id, NEW.id, '{}', '{}');
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_tenant_key_end() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('tenant.key.retire', OLD.tenant_id, NULL, '{}', jsonb_build_object('kind', OLD.kind, 'version', OLD.version));
    RETURN NULL;
END $$;
-- The event that holds a certificate's digest, for whoever may read the certificate.
CREATE FUNCTION audit.erasure_event(p_erasure_id uuid) RETURNS TABLE (seq bigint, event bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := authz.tenant();
BEGIN
    RETURN QUERY SELECT l.seq, l.event FROM audit.audit_logs l
        WHERE l.tenant_id = home AND l.resource_id = p_erasure_id AND l.action = 'erasure.complete' AND authz.may('erasures:manage');
END $$;
GRANT EXECUTE ON FUNCTION audit.erasure_event(uuid) TO cordon_audit_reader;
GRANT EXECUTE ON FUNCTION audit.on_hold(), audit.on_erasure(), audit.on_erasure_item(), audit.on_tenant_key_end(),
    audit.on_offboarding(), audit.on_offboarding_approval() TO cordon_owner;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON app.holds FOR EACH ROW EXECUTE FUNCTION audit.on_hold();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON auth.offboardings FOR EACH ROW EXECUTE FUNCTION audit.on_offboarding();
CREATE TRIGGER audit AFTER INSERT ON auth.offboarding_approvals FOR EACH ROW EXECUTE FUNCTION audit.on_offboarding_approval();
ALTER TABLE auth.offboardings ENABLE ALWAYS TRIGGER audit;
ALTER TABLE auth.offboarding_approvals ENABLE ALWAYS TRIGGER audit;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON app.erasures FOR EACH ROW EXECUTE FUNCTION audit.on_erasure();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON app.erasure_items FOR EACH ROW EXECUTE FUNCTION audit.on_erasure_item();
CREATE TRIGGER audit_end AFTER DELETE ON app.subjects FOR EACH ROW EXECUTE FUNCTION audit.on_subject();
CREATE TRIGGER audit_end AFTER DELETE ON keys.tenant_keys FOR EACH ROW EXECUTE FUNCTION audit.on_tenant_key_end();
ALTER TABLE app.holds ENABLE ALWAYS TRIGGER audit;
ALTER TABLE app.erasures ENABLE ALWAYS TRIGGER audit;
ALTER TABLE app.erasure_items ENABLE ALWAYS TRIGGER audit;
ALTER TABLE app.subjects ENABLE ALWAYS TRIGGER audit_end;
ALTER TABLE keys.tenant_keys ENABLE ALWAYS TRIGGER audit_end;

GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;
SET LOCAL ROLE cordon_keys_definer;

------------------------------------------------------------------------------------------------- holding

-- The ticket's tenant; raises when it does not carry the scope.
CREATE FUNCTION keys.home_for(p_scope text) RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims := authz.current_claims();
BEGIN
    IF (c.tenant_id IS NOT NULL AND p_scope = ANY (c.scopes)) IS NOT TRUE THEN
        RAISE EXCEPTION '% is missing', p_scope USING ERRCODE = '42501';
    END IF;
    RETURN c.tenant_id;
END $$;

CREATE FUNCTION keys.is_held(p_tenant_id uuid, p_document_id uuid, p_subject_id uuid) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM app.holds h WHERE h.tenant_id = p_tenant_id AND h.document_id = p_document_id AND h.released_at IS NULL)
        OR EXISTS (SELECT FROM app.holds h WHERE h.tenant_id = p_tenant_id AND h.subject_id = p_subject_id AND h.released_at IS NULL)
$$;

-- Neither deletion nor erasure passes a hold. The patient's row is where placing a hold and ending a document meet; a
-- document's own row is locked by whoever changes it.
CREATE FUNCTION keys.refuse_held() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.subject_id IS NOT NULL THEN
        PERFORM FROM app.subjects s WHERE s.tenant_id = OLD.tenant_id AND s.id = OLD.subject_id FOR SHARE;
    END IF;
    IF keys.is_held(OLD.tenant_id, OLD.id, OLD.subject_id) THEN
        RAISE EXCEPTION 'the document is under a legal hold' USING ERRCODE = 'CH001';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
GRANT EXECUTE ON FUNCTION keys.refuse_held() TO cordon_owner;

-- Of a document or a patient of the ticket's tenant. 23503: there is no such.
CREATE FUNCTION keys.place_hold(hold_id uuid, document_id uuid, subject_id uuid, reason_code text, reference text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := keys.home_for('holds:manage');
BEGIN
    IF place_hold.document_id IS NOT NULL THEN
        PERFORM FROM app.documents d WHERE d.tenant_id = home AND d.id = place_hold.document_id FOR NO KEY UPDATE;
    ELSE
        PERFORM FROM app.subjects s WHERE s.tenant_id = home AND s.id = place_hold.subject_id FOR NO KEY UPDATE;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'nothing to hold' USING ERRCODE = '23503';
    END IF;
    INSERT INTO app.holds (tenant_id, id, document_id, subject_id, reason_code, reference, placed_by)
        VALUES (home, place_hold.hold_id, place_hold.document_id, place_hold.subject_id, place_hold.reason_code, place_hold.reference, authz.user_id());
END $$;

-- False: no such hold, or it was released before.
CREATE FUNCTION keys.release_hold(hold_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE app.holds h SET released_by = authz.user_id(), released_at = clock_timestamp()
        WHERE h.tenant_id = keys.home_for('holds:manage') AND h.id = release_hold.hold_id AND h.released_at IS NULL;
    RETURN FOUND;
END $$;

------------------------------------------------------------------------------------------------- erasing

-- Packages of evidence are documents of their own, made from others.
CREATE FUNCTION keys.packages_of(p_tenant_id uuid, p_documents uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF to_regclass('app.evidence_sources') IS NOT NULL THEN
        RETURN QUERY EXECUTE 'SELECT DISTINCT s.evidence_id FROM app.evidence_sources s WHERE s.tenant_id = $1 AND s.document_id = ANY ($2)'
            USING p_tenant_id, p_documents;
    END IF;
END $$;

-- Begin to erase documents of the ticket's tenant, or everything of a patient: gone for readers when this commits, and for
-- good when its job is done. How many documents. 23503: one is not there, or is being erased; CH001: one is held.
CREATE FUNCTION keys.begin_erasure(erasure_id uuid, document_ids uuid[], subject_id uuid, reason_code text, reference text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home    uuid := keys.home_for('erasures:manage');
    wanted  uuid[] := begin_erasure.document_ids;
    there   uuid[];
BEGIN
    IF begin_erasure.subject_id IS NOT NULL THEN
        PERFORM FROM app.subjects s WHERE s.tenant_id = home AND s.id = begin_erasure.subject_id FOR NO KEY UPDATE;
        IF NOT FOUND OR cardinality(wanted) <> 0 THEN
            RAISE EXCEPTION 'no such patient' USING ERRCODE = '23503';
        END IF;
        IF keys.is_held(home, NULL, begin_erasure.subject_id) THEN
            RAISE EXCEPTION 'the patient is under a legal hold' USING ERRCODE = 'CH001';
        END IF;
        wanted := ARRAY(SELECT d.id FROM app.documents d WHERE d.tenant_id = home AND d.subject_id = begin_erasure.subject_id
                        AND NOT EXISTS (SELECT FROM app.erasure_items i WHERE i.tenant_id = home AND i.id = d.id));
    END IF;
    wanted := ARRAY(SELECT DISTINCT w FROM unnest(wanted || ARRAY(SELECT keys.packages_of(home, wanted))) w);
    there := ARRAY(SELECT d.id FROM app.documents d WHERE d.tenant_id = home AND d.id = ANY (wanted) ORDER BY d.id FOR NO KEY UPDATE);
    IF cardinality(there) <> cardinality(wanted) OR (cardinality(wanted) = 0 AND begin_erasure.subject_id IS NULL)
       OR EXISTS (SELECT FROM app.erasure_items i WHERE i.tenant_id = home AND i.id = ANY (wanted)) THEN
        RAISE EXCEPTION 'no such document' USING ERRCODE = '23503';
    END IF;
    IF EXISTS (SELECT FROM app.documents d WHERE d.tenant_id = home AND d.id = ANY (wanted) AND keys.is_held(home, d.id, d.subject_id)) THEN
        RAISE EXCEPTION 'a document is under a legal hold' USING ERRCODE = 'CH001';
    END IF;
    INSERT INTO app.erasures (tenant_id, id, subject_id, reason_code, reference, requested_by)
        VALUES (home, begin_erasure.erasure_id, begin_erasure.subject_id, begin_erasure.reason_code, begin_erasure.reference, authz.user_id());
    INSERT INTO app.erasure_items (tenant_id, erasure_id, kind, id) SELECT home, begin_erasure.erasure_id, 'document', w FROM unnest(wanted) w;
    UPDATE app.documents d SET status = 'deleted', reason_code = NULL, deleted_at = clock_timestamp()
        WHERE d.tenant_id = home AND d.id = ANY (wanted) AND d.status <> 'deleted';
    PERFORM jobs.enqueue_tenant(begin_erasure.erasure_id, 'erase', false);
    RETURN cardinality(wanted);
END $$;

-- Of the job that the ticket is for. Raises unless it is the erasure's own.
CREATE FUNCTION keys.own_erasure() RETURNS app.erasures
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c    authz.claims := authz.current_claims();
    own  app.erasures;
BEGIN
    SELECT e.* INTO own FROM app.erasures e
        WHERE c.kind = 'job' AND 'job:erase' = ANY (c.scopes) AND e.tenant_id = c.tenant_id AND e.id = c.job_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not an erasure' USING ERRCODE = '42501';
    END IF;
    RETURN own;
END $$;

-- What is to be done next, up to 20 items, and how far it is.
CREATE FUNCTION keys.erasure_next() RETURNS TABLE (kind text, id uuid, state text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own  app.erasures := keys.own_erasure();
BEGIN
    RETURN QUERY SELECT i.kind, i.id, i.state FROM app.erasure_items i
        WHERE i.tenant_id = own.tenant_id AND i.erasure_id = own.id AND i.state <> 'destroyed' ORDER BY i.kind DESC, i.id LIMIT 20;
END $$;

CREATE FUNCTION keys.erasure_progress(OUT done integer, OUT total integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.erasures := keys.own_erasure();
BEGIN
    SELECT count(*) FILTER (WHERE i.state = 'destroyed'), count(*) INTO done, total FROM app.erasure_items i
        WHERE i.tenant_id = own.tenant_id AND i.erasure_id = own.id;
END $$;

-- Everything in this database that was made from the document, and the document itself. Conversations go with their
-- answers, and become items of this erasure, whose shares are destroyed next.
CREATE FUNCTION keys.erase_rows(own app.erasures, p_document_id uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counts  jsonb;
    gone    uuid[] := '{}';
BEGIN
    PERFORM FROM app.documents d WHERE d.tenant_id = own.tenant_id AND d.id = p_document_id FOR UPDATE;
    IF to_regprocedure('keys.erase_answers(uuid,uuid[])') IS NOT NULL THEN
        EXECUTE 'SELECT coalesce(array_agg(e), ''{}'') FROM keys.erase_answers($1, $2) e' INTO gone USING own.tenant_id, ARRAY[p_document_id];
    END IF;
    INSERT INTO app.erasure_items (tenant_id, erasure_id, kind, id)
        SELECT own.tenant_id, own.id, 'conversation', g FROM unnest(gone) g ON CONFLICT DO NOTHING;
    counts := jsonb_build_object('conversations', cardinality(gone), 'chunks',
        (SELECT count(*) FROM app.chunks k WHERE k.tenant_id = own.tenant_id AND k.document_id = p_document_id));
    counts := counts || jsonb_build_object('jobs', jobs.forget_document(own.tenant_id, p_document_id));
    DELETE FROM app.documents d WHERE d.tenant_id = own.tenant_id AND d.id = p_document_id;
    RETURN counts;
END $$;

-- An effect was had: the item moves on. The rows of a document go in this same transaction. Repeating it changes nothing.
CREATE FUNCTION keys.erasure_step(item_id uuid, from_state text, objects integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own   app.erasures := keys.own_erasure();
    item  app.erasure_items;
    next  text;
BEGIN
    SELECT i.* INTO item FROM app.erasure_items i
        WHERE i.tenant_id = own.tenant_id AND i.erasure_id = own.id AND i.id = erasure_step.item_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such item' USING ERRCODE = '23503';
    END IF;
    IF item.state <> erasure_step.from_state THEN
        RETURN;
    END IF;
    SELECT m.to_state INTO STRICT next FROM app.erasure_moves m WHERE m.kind = item.kind AND m.from_state = item.state;
    UPDATE app.erasure_items i SET state = next, objects = i.objects + coalesce(erasure_step.objects, 0), changed_at = clock_timestamp(),
            rows = CASE WHEN item.kind = 'document' AND next = 'destroyed' THEN keys.erase_rows(own, item.id) ELSE i.rows END
        WHERE i.tenant_id = own.tenant_id AND i.id = item.id;
END $$;

-- Nothing is left to be done: the patient's row goes, the certificate is made, and the job is over.
CREATE FUNCTION keys.finish_erasure(backup_days integer, cache_s integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own   app.erasures := keys.own_erasure();
    at    timestamptz := date_trunc('second', clock_timestamp());
    paper jsonb;
BEGIN
    IF own.done_at IS NULL THEN
        PERFORM FROM app.erasure_items i WHERE i.tenant_id = own.tenant_id AND i.erasure_id = own.id AND i.state <> 'destroyed';
        IF FOUND THEN
            RAISE EXCEPTION 'the erasure is not done' USING ERRCODE = '23514';
        END IF;
        -- A document that came for the patient meanwhile keeps the row.
        DELETE FROM app.subjects s WHERE s.tenant_id = own.tenant_id AND s.id = own.subject_id
            AND NOT EXISTS (SELECT FROM app.documents d WHERE d.tenant_id = own.tenant_id AND d.subject_id = own.subject_id);
        paper := jsonb_build_object('type', 'cordon erasure certificate v1', 'tenant_id', own.tenant_id, 'erasure_id', own.id,
            'subject_id', own.subject_id, 'subject_destroyed', FOUND, 'reason', own.reason_code, 'reference', own.reference,
            'requested_by', own.requested_by, 'requested_at', to_char(own.requested_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'completed_at', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'destroyed', (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('kind', i.kind, 'id', i.id, 'key_share', true,
                    'object_versions', CASE i.kind WHEN 'document' THEN i.objects END, 'rows', nullif(i.rows, '{}'))) ORDER BY i.kind, i.id), '[]')
                FROM app.erasure_items i WHERE i.tenant_id = own.tenant_id AND i.erasure_id = own.id),
            'left', jsonb_build_array(
                jsonb_build_object('what', 'audit records: ids, times, codes and salted commitments, no text', 'until', 'end of the log''s retention'),
                jsonb_build_object('what', 'ciphertext that no key opens, in backups of the database and its write-ahead log',
                    'until', to_char((at + backup_days * interval '1 day') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
                jsonb_build_object('what', 'vectors, blind tokens and the patient''s sealed record number in backups of the database',
                    'until', to_char((at + backup_days * interval '1 day') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
                jsonb_build_object('what', 'shares of keys in the memory of running processes, of no use without the rows',
                    'until', to_char((at + cache_s * interval '1 s') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))));
        UPDATE app.erasures e SET done_at = at, certificate = paper::text WHERE e.tenant_id = own.tenant_id AND e.id = own.id;
    END IF;
    PERFORM jobs.complete();
END $$;

------------------------------------------------------------------------------------------------- rotating

-- A new version of the tenant's data key: it seals from now on, and a job wraps under it what is under older ones.
CREATE FUNCTION keys.rotate_tenant_key(job_id uuid, kms_key_id text, blob bytea) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home   uuid := keys.home_for('keys:manage');
    fresh  integer;
BEGIN
    IF jobs.enqueue_tenant(rotate_tenant_key.job_id, 'rewrap', true) IS NOT TRUE THEN
        RAISE EXCEPTION 'a rotation is under way' USING ERRCODE = '23505';
    END IF;
    SELECT max(k.version) + 1 INTO STRICT fresh FROM keys.tenant_keys k WHERE k.tenant_id = home AND k.kind = 'data';
    INSERT INTO keys.tenant_keys (tenant_id, kind, version, kms_key_id, blob)
        VALUES (home, 'data', fresh, rotate_tenant_key.kms_key_id, rotate_tenant_key.blob);
    RETURN fresh;
END $$;

-- The tenant whose keys the ticket's job wraps anew.
CREATE FUNCTION keys.rewrap_home() RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims := authz.current_claims();
BEGIN
    IF (c.kind = 'job' AND 'job:rewrap' = ANY (c.scopes) AND c.document_id = '00000000-0000-0000-0000-000000000000') IS NOT TRUE THEN
        RAISE EXCEPTION 'not a rotation' USING ERRCODE = '42501';
    END IF;
    RETURN c.tenant_id;
END $$;

-- Up to n of what is not under the newest data key, or is a document's key of one share.
CREATE FUNCTION keys.rewrap_next(n integer) RETURNS TABLE (kind text, id uuid, version integer, wrapped bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    home    uuid := keys.rewrap_home();
    newest  integer := (SELECT max(k.version) FROM keys.tenant_keys k WHERE k.tenant_id = home AND k.kind = 'data');
BEGIN
    RETURN QUERY SELECT 'document', k.document_id, k.version, k.wrapped FROM keys.document_keys k
        WHERE k.tenant_id = home AND (k.version < newest OR get_byte(k.wrapped, 0) = 1) LIMIT least(greatest(n, 0), 100);
    RETURN QUERY SELECT 'subject', s.id, s.key_version, s.mrn_enc FROM app.subjects s
        WHERE s.tenant_id = home AND s.key_version < newest LIMIT least(greatest(n, 0), 100);
    RETURN QUERY SELECT 'conversation', k.conversation_id, k.version, k.wrapped FROM keys.conversation_keys k
        WHERE k.tenant_id = home AND k.version < newest LIMIT least(greatest(n, 0), 100);
END $$;

-- Put one back. False: it is not what it was, so the job looks again.
CREATE FUNCTION keys.rewrap_put(kind text, id uuid, old_version integer, old_wrapped bytea, version integer, wrapped bytea) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home     uuid := keys.rewrap_home();
    changed  integer := 0;
BEGIN
    PERFORM FROM keys.tenant_keys k WHERE k.tenant_id = home AND k.kind = 'data' AND k.version = rewrap_put.version;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such tenant key' USING ERRCODE = '23503';
    END IF;
    CASE rewrap_put.kind
    WHEN 'document' THEN
        UPDATE keys.document_keys k SET version = rewrap_put.version, wrapped = rewrap_put.wrapped
            WHERE k.tenant_id = home AND k.document_id = rewrap_put.id AND k.version = rewrap_put.old_version AND k.wrapped = rewrap_put.old_wrapped;
        GET DIAGNOSTICS changed = ROW_COUNT;
    WHEN 'subject' THEN
        UPDATE app.subjects s SET key_version = rewrap_put.version, mrn_enc = rewrap_put.wrapped
            WHERE s.tenant_id = home AND s.id = rewrap_put.id AND s.key_version = rewrap_put.old_version AND s.mrn_enc = rewrap_put.old_wrapped;
        GET DIAGNOSTICS changed = ROW_COUNT;
    WHEN 'conversation' THEN
        UPDATE keys.conversation_keys k SET version = rewrap_put.version, wrapped = rewrap_put.wrapped
            WHERE k.tenant_id = home AND k.conversation_id = rewrap_put.id AND k.version = rewrap_put.old_version AND k.wrapped = rewrap_put.old_wrapped;
        GET DIAGNOSTICS changed = ROW_COUNT;
    END CASE;
    RETURN changed > 0;
END $$;

-- How much there is to do, and how much of it is done.
CREATE FUNCTION keys.rewrap_progress(OUT done bigint, OUT total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home    uuid := keys.rewrap_home();
    newest  integer := (SELECT max(k.version) FROM keys.tenant_keys k WHERE k.tenant_id = home AND k.kind = 'data');
BEGIN
    SELECT count(*) FILTER (WHERE k.version = newest AND get_byte(k.wrapped, 0) <> 1), count(*) INTO done, total
        FROM keys.document_keys k WHERE k.tenant_id = home;
END $$;

-- The end of a rotation: versions that nothing is under any more are forgotten, and the job is over. A transaction that
-- seals under one holds its row (put_document_key), and is waited for here.
CREATE FUNCTION keys.finish_rewrap() RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home     uuid := keys.rewrap_home();
    newest   integer := (SELECT max(k.version) FROM keys.tenant_keys k WHERE k.tenant_id = home AND k.kind = 'data');
    old      integer;
    used     boolean;
    retired  integer := 0;
BEGIN
    FOR old IN SELECT k.version FROM keys.tenant_keys k WHERE k.tenant_id = home AND k.kind = 'data' AND k.version < newest FOR UPDATE LOOP
        used := EXISTS (SELECT FROM keys.document_keys d WHERE d.tenant_id = home AND d.version = old)
            OR EXISTS (SELECT FROM app.subjects s WHERE s.tenant_id = home AND s.key_version = old)
            OR EXISTS (SELECT FROM keys.conversation_keys k WHERE k.tenant_id = home AND k.version = old);
        IF NOT used THEN
            DELETE FROM keys.tenant_keys k WHERE k.tenant_id = home AND k.kind = 'data' AND k.version = old;
            retired := retired + 1;
        END IF;
    END LOOP;
    PERFORM jobs.complete();
    RETURN retired;
END $$;

-- As before; and the tenant key must still be there when this commits.
CREATE OR REPLACE FUNCTION keys.put_document_key(document_id uuid, version integer, wrapped bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := authz.tenant();
BEGIN
    IF home IS NULL OR authz.may('documents:write') IS NOT TRUE THEN
        RAISE EXCEPTION 'documents:write is missing' USING ERRCODE = '42501';
    END IF;
    PERFORM FROM app.documents d WHERE d.tenant_id = home AND d.id = put_document_key.document_id AND d.status = 'processing'
        AND d.created_by = authz.user_id() AND d.key_version = put_document_key.version;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such document waits for a key' USING ERRCODE = '23503';
    END IF;
    PERFORM FROM keys.tenant_keys k WHERE k.tenant_id = home AND k.kind = 'data' AND k.version = put_document_key.version FOR KEY SHARE;
    IF NOT FOUND AND EXISTS (SELECT FROM keys.tenant_keys k WHERE k.tenant_id = home AND k.kind = 'data' AND k.version > put_document_key.version) THEN
        RAISE EXCEPTION 'the tenant key was retired' USING ERRCODE = '40001';
    END IF;
    INSERT INTO keys.document_keys (tenant_id, document_id, version, wrapped)
        VALUES (home, put_document_key.document_id, put_document_key.version, put_document_key.wrapped);
END $$;

------------------------------------------------------------------------------------------------- ending a tenant

-- The ticket's holder agrees that the tenant ends; how many do. The same person counts once.
CREATE FUNCTION keys.approve_offboarding(p_tenant_id uuid) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    open  uuid;
BEGIN
    IF authz.may('tenants:manage') IS NOT TRUE THEN
        RAISE EXCEPTION 'tenants:manage is missing' USING ERRCODE = '42501';
    END IF;
    PERFORM FROM auth.tenants t WHERE t.id = p_tenant_id AND t.kms_key_id IS NOT NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such tenant' USING ERRCODE = '23503';
    END IF;
    SELECT o.id INTO open FROM auth.offboardings o WHERE o.tenant_id = p_tenant_id AND o.state <> 'cancelled';
    IF NOT FOUND THEN
        INSERT INTO auth.offboardings (id, tenant_id) VALUES (authz.uuid_v7(), p_tenant_id) RETURNING id INTO open;
    END IF;
    INSERT INTO auth.offboarding_approvals (tenant_id, offboarding_id, user_id) VALUES (p_tenant_id, open, authz.user_id()) ON CONFLICT DO NOTHING;
    RETURN (SELECT count(*) FROM auth.offboarding_approvals a WHERE a.tenant_id = p_tenant_id AND a.offboarding_id = open);
END $$;

-- For the operator's program, before KMS is asked: the tenant's work stops with this. CA001: two people must have agreed,
-- within the last 30 days.
CREATE FUNCTION keys.begin_offboarding(p_slug text, OUT offboarding_id uuid, OUT kms_key_id text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT o.id, t.kms_key_id INTO offboarding_id, kms_key_id
        FROM auth.tenants t JOIN auth.offboardings o ON o.tenant_id = t.id AND o.state IN ('requested', 'intended', 'scheduled')
        WHERE t.slug = p_slug FOR UPDATE OF o;
    IF NOT FOUND OR (SELECT count(DISTINCT a.user_id) FROM auth.offboarding_approvals a WHERE a.offboarding_id = begin_offboarding.offboarding_id
                     AND a.approved_at > now() - interval '30 days') < 2 THEN
        RAISE EXCEPTION 'two different people must have approved the end of this tenant' USING ERRCODE = 'CA001';
    END IF;
    IF EXISTS (SELECT FROM app.holds h JOIN auth.offboardings o ON o.tenant_id = h.tenant_id
               WHERE o.id = begin_offboarding.offboarding_id AND h.released_at IS NULL) THEN
        RAISE EXCEPTION 'the tenant has legal holds' USING ERRCODE = 'CH001';
    END IF;
    UPDATE auth.offboardings o SET state = 'intended' WHERE o.id = offboarding_id AND o.state = 'requested';
    UPDATE auth.tenants t SET status = 'suspended', updated_at = now() WHERE t.slug = p_slug AND t.status <> 'suspended';
END $$;

CREATE FUNCTION keys.offboarding_scheduled(p_offboarding_id uuid, p_days integer) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.offboardings SET state = 'scheduled', delete_at = clock_timestamp() + p_days * interval '1 day'
        WHERE id = p_offboarding_id AND state = 'intended'
$$;

-- Taking it back; a tenant that is to work again is resumed by an administrator.
CREATE FUNCTION keys.cancel_offboarding(p_slug text, OUT offboarding_id uuid, OUT kms_key_id text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT o.id, t.kms_key_id INTO offboarding_id, kms_key_id
        FROM auth.tenants t JOIN auth.offboardings o ON o.tenant_id = t.id AND o.state <> 'cancelled' WHERE t.slug = p_slug FOR UPDATE OF o;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'nothing to cancel' USING ERRCODE = '23503';
    END IF;
    UPDATE auth.offboardings o SET state = 'cancel_intended' WHERE o.id = offboarding_id AND o.state <> 'cancel_intended';
END $$;

CREATE FUNCTION keys.offboarding_cancelled(p_offboarding_id uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.offboardings SET state = 'cancelled', delete_at = NULL WHERE id = p_offboarding_id AND state = 'cancel_intended'
$$;
GRANT EXECUTE ON FUNCTION keys.approve_offboarding(uuid) TO cordon_auth;
GRANT EXECUTE ON FUNCTION keys.begin_offboarding(text), keys.offboarding_scheduled(uuid, integer), keys.cancel_offboarding(text),
    keys.offboarding_cancelled(uuid) TO cordon_owner;

GRANT EXECUTE ON FUNCTION keys.place_hold(uuid, uuid, uuid, text, text), keys.release_hold(uuid),
    keys.begin_erasure(uuid, uuid[], uuid, text, text), keys.erasure_next(), keys.erasure_progress(), keys.erasure_step(uuid, text, integer),
    keys.finish_erasure(integer, integer), keys.rewrap_next(integer), keys.rewrap_put(text, uuid, integer, bytea, integer, bytea),
    keys.rewrap_progress(), keys.finish_rewrap() TO cordon_ingest;
GRANT EXECUTE ON FUNCTION keys.rotate_tenant_key(uuid, text, bytea) TO cordon_auth;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;

CREATE TRIGGER refuse_held BEFORE DELETE ON app.documents FOR EACH ROW EXECUTE FUNCTION keys.refuse_held();
CREATE TRIGGER refuse_held_update BEFORE UPDATE OF status ON app.documents FOR EACH ROW
    WHEN (NEW.status = 'deleted' AND OLD.status <> 'deleted') EXECUTE FUNCTION keys.refuse_held();
ALTER TABLE app.documents ENABLE ALWAYS TRIGGER refuse_held;
ALTER TABLE app.documents ENABLE ALWAYS TRIGGER refuse_held_update;
RESET ROLE;
