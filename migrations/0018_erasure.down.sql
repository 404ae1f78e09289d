-- Erasures and holds that there were are forgotten; what they have destroyed stays so.
DROP TRIGGER refuse_held ON app.documents;
DROP TRIGGER refuse_held_update ON app.documents;
DROP TRIGGER audit_end ON app.subjects;
DROP TRIGGER audit_end ON keys.tenant_keys;
DROP FUNCTION keys.place_hold(uuid, uuid, uuid, text, text), keys.release_hold(uuid), keys.begin_erasure(uuid, uuid[], uuid, text, text),
    keys.erasure_next(), keys.erasure_progress(), keys.erasure_step(uuid, text, integer), keys.finish_erasure(integer, integer),
    keys.rewrap_next(integer), keys.rewrap_put(text, uuid, integer, bytea, integer, bytea), keys.rewrap_progress(), keys.finish_rewrap(),
    keys.rotate_tenant_key(uuid, text, bytea), keys.rewrap_home(), keys.packages_of(uuid, uuid[]), keys.refuse_held(),
    keys.is_held(uuid, uuid, uuid), keys.home_for(text);
DROP FUNCTION keys.erase_rows(app.erasures, uuid), keys.own_erasure();
DROP FUNCTION keys.approve_offboarding(uuid), keys.begin_offboarding(text), keys.offboarding_scheduled(uuid, integer), keys.cancel_offboarding(text),
    keys.offboarding_cancelled(uuid);
DROP TABLE auth.offboarding_approvals, auth.offboardings;
DROP POLICY keys_definer_ends ON auth.tenants;
REVOKE SELECT (id, slug, status, kms_key_id), UPDATE (status, updated_at) ON auth.tenants FROM cordon_keys_definer;
DROP FUNCTION audit.on_offboarding(), audit.on_offboarding_approval();
DROP TABLE app.erasure_items, app.erasures, app.erasure_moves, app.holds;
DROP FUNCTION audit.on_hold(), audit.on_erasure(), audit.on_erasure_item(), audit.on_tenant_key_end(), audit.erasure_event(uuid);
DROP POLICY keys_definer_erases ON app.documents;
DROP POLICY keys_definer_ends ON app.documents;
DROP POLICY keys_definer_counts ON app.chunks;
DROP POLICY keys_definer_erases ON app.subjects;
REVOKE SELECT (subject_id), UPDATE (status, reason_code, deleted_at), DELETE ON app.documents FROM cordon_keys_definer;
REVOKE SELECT (tenant_id, document_id) ON app.chunks FROM cordon_keys_definer;
REVOKE SELECT ON app.document_moves FROM cordon_keys_definer;
REVOKE SELECT, UPDATE (mrn_enc, key_version), DELETE ON app.subjects FROM cordon_keys_definer;
REVOKE UPDATE (version, wrapped) ON keys.document_keys FROM cordon_keys_definer;
REVOKE UPDATE (created_at), DELETE ON keys.tenant_keys FROM cordon_keys_definer;
DO $$
BEGIN
    IF to_regclass('keys.conversation_keys') IS NOT NULL THEN
        REVOKE UPDATE (version, wrapped) ON keys.conversation_keys FROM cordon_keys_definer;
    END IF;
END $$;
ALTER TABLE app.subjects DROP COLUMN key_version;
DELETE FROM jobs.jobs WHERE document_id = '00000000-0000-0000-0000-000000000000';
ALTER TABLE jobs.jobs ADD FOREIGN KEY (tenant_id, document_id) REFERENCES app.documents (tenant_id, id) ON DELETE CASCADE;
REVOKE EXECUTE ON FUNCTION jobs.complete() FROM cordon_keys_definer;
DROP FUNCTION jobs.enqueue_tenant(uuid, text, boolean), jobs.forget_document(uuid, uuid);
DELETE FROM auth.role_scopes WHERE scope IN ('holds:manage', 'erasures:manage', 'keys:manage');
DELETE FROM auth.scopes WHERE name IN ('holds:manage', 'erasures:manage', 'keys:manage');

CREATE OR REPLACE FUNCTION jobs.progress(stage text, pages_done integer, chunks_done integer, chunks_total integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own       bigint := jobs.own_job();
    c         authz.claims := authz.current_claims();
    is_ahead  boolean;
BEGIN
    PERFORM jobs.hold_document(c.tenant_id, c.document_id);
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
    PERFORM jobs.hold_document(own.tenant_id, own.document_id);
    UPDATE jobs.jobs j SET state = 'queued', reason_code = NULL, cancel_requested_at = NULL, done_at = NULL, run_after = clock_timestamp(),
            stage = NULL, attempt = 0, outages = 0, outage_since = NULL, pages_done = 0, chunks_done = 0, chunks_total = NULL
        WHERE j.seq = own.seq;
    PERFORM pg_notify('jobs_' || own.queue, '');
    RETURN 'queued';
END $$;

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
        PERFORM audit.record(what, NEW.tenant_id, NEW.id, ARRAY[NEW.document_id], jsonb_build_object('queue', NEW.queue, 'kind', NEW.kind)
            || CASE WHEN what = 'job.enqueue' THEN '{}'
                    WHEN what IN ('job.complete', 'job.dead') THEN jsonb_build_object('attempt', NEW.attempt, 'reason', NEW.reason_code)
                    ELSE jsonb_build_object('from', OLD.state) END);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION audit.on_subject() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('subject.create', NEW.tenant_id, NEW.id, '{}', '{}');
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION keys.put_document_key(document_id uuid, version integer, wrapped bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := authz.tenant();
BEGIN
    IF home IS NULL OR authz.may('documents:write') IS NOT TRUE THEN
        RAISE EXCEPTION 'documents:write is missing' USING ERRCODE = '42501';
    END IF;
    -- With its document and by its uploader only: a newer key would hide the one that opens it. A document of another
    -- tenant is refused exactly as one that does not exist.
    PERFORM FROM app.documents d WHERE d.tenant_id = home AND d.id = put_document_key.document_id AND d.status = 'processing'
        AND d.created_by = authz.user_id() AND d.key_version = put_document_key.version;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such document waits for a key' USING ERRCODE = '23503';
    END IF;
    INSERT INTO keys.document_keys (tenant_id, document_id, version, wrapped)
        VALUES (home, put_document_key.document_id, put_document_key.version, put_document_key.wrapped);
END $$;
