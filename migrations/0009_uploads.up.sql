-- Uploads under way, and the answers to those that may be sent again.
--
-- A row of app.uploads is the intent: committed before the document store hears of the upload, its heartbeat and byte
-- count renewed while bytes come. It goes in the transaction that commits the document, or once what the upload left in
-- the store has been removed. Its fence is known to the process that uploads: who was given up (swept_at) finds no row
-- to commit with. It holds no name and no key: nothing of the document is kept before the document is.

SET LOCAL ROLE cordon_owner;

CREATE TABLE app.uploads (
    tenant_id        uuid NOT NULL REFERENCES auth.tenants,
    document_id      uuid NOT NULL,
    fence            uuid NOT NULL,
    user_id          uuid NOT NULL,
    content_type     text NOT NULL CHECK (length(content_type) BETWEEN 3 AND 128),
    bytes_announced  bigint CHECK (bytes_announced > 0),
    bytes_received   bigint NOT NULL DEFAULT 0 CHECK (bytes_received >= 0),
    key_digest       bytea CHECK (octet_length(key_digest) = 32),       -- HMAC of its Idempotency-Key, see below
    lease_ms         integer NOT NULL CHECK (lease_ms BETWEEN 1000 AND 300000),     -- without a heartbeat for so long it is dead
    started_at       timestamptz NOT NULL DEFAULT now(),
    heartbeat_at     timestamptz NOT NULL DEFAULT now(),
    swept_at         timestamptz,       -- given up: it can no more commit
    sweep_after      timestamptz,       -- when the store is to be looked at next
    PRIMARY KEY (tenant_id, document_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id)
);
CREATE UNIQUE INDEX uploads_key ON app.uploads (tenant_id, user_id, key_digest) WHERE key_digest IS NOT NULL AND swept_at IS NULL;

-- What an upload with an Idempotency-Key was answered, for a day: a user's key is his own. Both digests are HMACs under
-- the tenant's search key: keys are chosen by clients and may say anything, and a document's bytes can be guessed.
-- No audit record of their own: a row comes with its document, whose creation is on record, and goes when its time is over.
CREATE TABLE app.idempotency_keys (
    tenant_id       uuid NOT NULL,
    user_id         uuid NOT NULL,
    key_digest      bytea NOT NULL CHECK (octet_length(key_digest) = 32),
    request_digest  bytea NOT NULL CHECK (octet_length(request_digest) = 32),
    document_id     uuid NOT NULL,
    job_id          uuid NOT NULL,
    expires_at      timestamptz NOT NULL DEFAULT now() + interval '24 h',
    PRIMARY KEY (tenant_id, user_id, key_digest),
    FOREIGN KEY (tenant_id, document_id) REFERENCES app.documents (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id)
);
CREATE INDEX idempotency_keys_expiry ON app.idempotency_keys (expires_at);
CREATE INDEX idempotency_keys_document ON app.idempotency_keys (tenant_id, document_id);

-- The database's clock is the one that leases are on: a heartbeat is now, whatever its sender thinks.
CREATE FUNCTION app.check_upload() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.started_at := clock_timestamp();
        NEW.heartbeat_at := clock_timestamp();
        RETURN NEW;
    END IF;
    IF (NEW.tenant_id, NEW.document_id, NEW.fence, NEW.user_id, NEW.started_at) IS DISTINCT FROM
       (OLD.tenant_id, OLD.document_id, OLD.fence, OLD.user_id, OLD.started_at) OR NEW.bytes_received < OLD.bytes_received
       OR (OLD.swept_at IS NOT NULL AND NEW.swept_at IS NULL) THEN
        RAISE EXCEPTION 'upload: its identity cannot change' USING ERRCODE = '23514';
    END IF;
    IF NEW.swept_at IS NULL THEN
        NEW.heartbeat_at := clock_timestamp();
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_upload BEFORE INSERT OR UPDATE ON app.uploads FOR EACH ROW EXECUTE FUNCTION app.check_upload();
ALTER TABLE app.uploads ENABLE ALWAYS TRIGGER check_upload;

------------------------------------------------------------------------------------------------- policies and grants

ALTER TABLE app.uploads ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.uploads FORCE ROW LEVEL SECURITY;
ALTER TABLE app.idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.idempotency_keys FORCE ROW LEVEL SECURITY;

-- ingest-worker sees which ids the tenant has in use, and touches its user's own uploads only, while nobody gave them up
CREATE POLICY ingest_reads ON app.uploads FOR SELECT TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('documents:write')));
CREATE POLICY ingest_adds ON app.uploads FOR INSERT TO cordon_ingest
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND (SELECT authz.may('documents:write')));
CREATE POLICY ingest_changes ON app.uploads FOR UPDATE TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND swept_at IS NULL AND (SELECT authz.may('documents:write')))
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND (SELECT authz.may('documents:write')));
CREATE POLICY ingest_removes ON app.uploads FOR DELETE TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND swept_at IS NULL AND (SELECT authz.may('documents:write')));
CREATE POLICY query_reads ON app.uploads FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('documents:read')));
CREATE POLICY definer ON app.uploads TO cordon_jobs_definer USING (true) WITH CHECK (true);

CREATE POLICY ingest_own ON app.idempotency_keys TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND (SELECT authz.may('documents:write')));
CREATE POLICY definer ON app.idempotency_keys TO cordon_jobs_definer USING (true) WITH CHECK (true);

GRANT SELECT, INSERT (tenant_id, document_id, fence, user_id, content_type, bytes_announced, key_digest, lease_ms),
    UPDATE (bytes_received, swept_at), DELETE ON app.uploads TO cordon_ingest;
GRANT SELECT, INSERT (tenant_id, user_id, key_digest, request_digest, document_id, job_id), DELETE ON app.idempotency_keys TO cordon_ingest;
GRANT SELECT (tenant_id, document_id, user_id, content_type, bytes_announced, bytes_received, started_at, heartbeat_at, swept_at)
    ON app.uploads TO cordon_query;
GRANT SELECT, UPDATE (swept_at, sweep_after), DELETE ON app.uploads TO cordon_jobs_definer;
GRANT SELECT, DELETE ON app.idempotency_keys TO cordon_jobs_definer;

------------------------------------------------------------------------------------------------- what the janitor may ask

GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
RESET ROLE;
SET LOCAL ROLE cordon_jobs_definer;

-- Up to n uploads whose process has died, and which are thereby given up; also those given up before that are due for
-- another look. What the caller then removes from the store can be no document's: a document's row and its upload's do
-- not exist together, and one that commits just now holds the lock that is skipped here.
CREATE FUNCTION jobs.claim_uploads(n integer) RETURNS TABLE (tenant_id uuid, document_id uuid, fence uuid)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH due AS MATERIALIZED (
        SELECT p.tenant_id, p.document_id FROM app.uploads p
            WHERE CASE WHEN p.swept_at IS NULL THEN p.heartbeat_at + p.lease_ms * interval '1 ms' ELSE coalesce(p.sweep_after, p.swept_at) END
                      < clock_timestamp()
              AND NOT EXISTS (SELECT FROM app.documents d WHERE d.tenant_id = p.tenant_id AND d.id = p.document_id)
            ORDER BY p.heartbeat_at LIMIT least(greatest(claim_uploads.n, 0), 100) FOR UPDATE OF p SKIP LOCKED)
    UPDATE app.uploads u SET swept_at = coalesce(u.swept_at, clock_timestamp()), sweep_after = clock_timestamp() + interval '1 min'
        FROM due WHERE u.tenant_id = due.tenant_id AND u.document_id = due.document_id
        RETURNING u.tenant_id, u.document_id, u.fence
$$;

-- Nothing of this upload is in the store. Said by the process that uploaded, which has nothing more under way, the row
-- goes. One that was given up stays, and keeps its id taken, until no request of its process can arrive any more: a
-- signature is good for 15 minutes, so the store is cleared once more after 20. False: there is no such row.
CREATE FUNCTION jobs.upload_is_gone(tenant_id uuid, document_id uuid, fence uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM app.uploads u
        WHERE u.tenant_id = upload_is_gone.tenant_id AND u.document_id = upload_is_gone.document_id AND u.fence = upload_is_gone.fence
          AND (u.swept_at IS NULL OR u.swept_at < clock_timestamp() - interval '20 min');
    IF FOUND THEN
        RETURN true;
    END IF;
    UPDATE app.uploads u SET sweep_after = u.swept_at + interval '20 min'
        WHERE u.tenant_id = upload_is_gone.tenant_id AND u.document_id = upload_is_gone.document_id AND u.fence = upload_is_gone.fence;
    RETURN FOUND;
END $$;

-- Forget up to n answers whose day is over; how many.
CREATE FUNCTION jobs.expire_idempotency_keys(n integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone  bigint;
BEGIN
    DELETE FROM app.idempotency_keys k WHERE k.ctid = ANY (ARRAY(
        SELECT p.ctid FROM app.idempotency_keys p WHERE p.expires_at < clock_timestamp()
            LIMIT least(greatest(expire_idempotency_keys.n, 0), 10000)));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;

GRANT EXECUTE ON FUNCTION jobs.claim_uploads(integer), jobs.upload_is_gone(uuid, uuid, uuid), jobs.expire_idempotency_keys(integer) TO cordon_jobs;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA jobs FROM cordon_jobs_definer;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;

------------------------------------------------------------------------------------------------- recording

SET LOCAL ROLE cordon_audit_definer;
CREATE FUNCTION audit.on_upload() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM audit.record('upload.begin', NEW.tenant_id, NULL, ARRAY[NEW.document_id],
            jsonb_build_object('bytes', NEW.bytes_announced, 'content_type', audit.code(NEW.content_type)));
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM audit.record('upload.end', OLD.tenant_id, NULL, ARRAY[OLD.document_id],
            jsonb_build_object('bytes', OLD.bytes_received, 'given_up', OLD.swept_at IS NOT NULL));
    ELSIF OLD.swept_at IS NULL AND NEW.swept_at IS NOT NULL THEN
        PERFORM audit.record('upload.give_up', NEW.tenant_id, NULL, ARRAY[NEW.document_id], jsonb_build_object('bytes', NEW.bytes_received));
    END IF;
    RETURN NULL;
END $$;
GRANT EXECUTE ON FUNCTION audit.on_upload() TO cordon_owner;
RESET ROLE;

SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON app.uploads FOR EACH ROW EXECUTE FUNCTION audit.on_upload();
ALTER TABLE app.uploads ENABLE ALWAYS TRIGGER audit;
RESET ROLE;
