-- As 0003, 0005 and 0007 made it. Cancelled jobs become dead ones, and what is scheduled is forgotten.

SET LOCAL ROLE cordon_owner;
DROP TRIGGER audit_removed ON jobs.jobs;
DROP TABLE jobs.schedules;
DROP POLICY jobs_definer_retries ON app.documents;
DELETE FROM app.document_moves WHERE only_by IS NOT NULL;
REVOKE DELETE ON jobs.jobs FROM cordon_jobs_definer;
REVOKE SELECT (priority, cancel_requested_at) ON jobs.jobs FROM cordon_query;
RESET ROLE;
SET LOCAL ROLE cordon_jobs_definer;
DROP FUNCTION jobs.enqueue(uuid, text, text, uuid, integer), jobs.attend(integer), jobs.line(text, integer),
    jobs.claim(text, text, integer, integer, integer), jobs.renew(uuid, bigint, text, integer, integer), jobs.fail_document(jobs.jobs, text), jobs.reap(text, integer), jobs.of_tenant(uuid),
    jobs.cancel(uuid), jobs.retry(uuid), jobs.stuck(), jobs.purge(integer), jobs.claim_schedule(text[], text, integer),
    jobs.finish_schedule(text, bigint, text), jobs.schedule_states();
RESET ROLE;

-- The owner sees no rows of a table whose security is forced.
SET LOCAL ROLE cordon_owner;
DROP SEQUENCE jobs.sessions;
DROP INDEX jobs.jobs_ready, jobs.jobs_turn, jobs.jobs_leased, jobs.jobs_unfinished, jobs.jobs_stuck, jobs.jobs_open, jobs.jobs_old;
ALTER TABLE jobs.jobs DROP CONSTRAINT jobs_state, DROP CONSTRAINT jobs_done, DROP CONSTRAINT jobs_cancelled;
ALTER TABLE jobs.jobs DISABLE TRIGGER USER, NO FORCE ROW LEVEL SECURITY;
UPDATE jobs.jobs SET state = 'dead' WHERE state = 'cancelled';
ALTER TABLE jobs.jobs ENABLE ALWAYS TRIGGER check_move, ENABLE ALWAYS TRIGGER audit, FORCE ROW LEVEL SECURITY;
ALTER TABLE jobs.jobs DROP COLUMN lease_session, DROP COLUMN traceparent,
    ADD CONSTRAINT jobs_state CHECK (state IN ('queued', 'running', 'succeeded', 'dead')),
    ADD CONSTRAINT jobs_check3 CHECK ((state IN ('succeeded', 'dead')) = (done_at IS NOT NULL));
CREATE INDEX jobs_ready ON jobs.jobs (queue, priority, run_after, seq) WHERE state = 'queued';
CREATE INDEX jobs_leased ON jobs.jobs (queue, lease_until) WHERE state = 'running';
CREATE INDEX jobs_unfinished ON jobs.jobs (queue, state, created_at) WHERE state <> 'succeeded';
DELETE FROM jobs.moves WHERE 'cancelled' IN (from_state, to_state) OR (from_state, to_state) = ('dead', 'queued');

CREATE OR REPLACE FUNCTION app.check_document_move() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.tenant_id, NEW.id, NEW.created_by, NEW.created_at) IS DISTINCT FROM (OLD.tenant_id, OLD.id, OLD.created_by, OLD.created_at) THEN
        RAISE EXCEPTION 'document: its identity cannot change' USING ERRCODE = '23514';
    END IF;
    IF NEW.status <> OLD.status AND NOT EXISTS (
            SELECT FROM app.document_moves m WHERE m.from_status = OLD.status AND m.to_status = NEW.status) THEN
        RAISE EXCEPTION 'document: % cannot become %', OLD.status, NEW.status USING ERRCODE = '23514';
    END IF;
    NEW.updated_at := now();
    IF NEW.status = 'ready' AND OLD.status <> 'ready' THEN
        NEW.ready_at := now();
    END IF;
    RETURN NEW;
END $$;
ALTER TABLE app.document_moves DROP COLUMN only_by;
GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
RESET ROLE;
SET LOCAL ROLE cordon_jobs_definer;

CREATE OR REPLACE FUNCTION jobs.enqueue(job_id uuid, queue text, kind text, document_id uuid) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims := authz.current_claims();
BEGIN
    IF (c.kind = 'user' AND c.tenant_id IS NOT NULL AND 'documents:write' = ANY (c.scopes)) IS NOT TRUE THEN
        RAISE EXCEPTION 'documents:write is missing' USING ERRCODE = '42501';
    END IF;
    PERFORM jobs.hold_document(c.tenant_id, enqueue.document_id);
    INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id)
        VALUES (c.tenant_id, enqueue.job_id, enqueue.queue, enqueue.kind, enqueue.document_id, c.user_id)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        PERFORM FROM jobs.jobs j WHERE j.tenant_id = c.tenant_id AND j.id = enqueue.job_id AND j.queue = enqueue.queue
            AND j.kind = enqueue.kind AND j.document_id = enqueue.document_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'job id is taken' USING ERRCODE = '23505';
        END IF;
    END IF;
    PERFORM pg_notify('jobs_' || enqueue.queue, '');
    RETURN enqueue.job_id;
END $$;

CREATE FUNCTION jobs.claim(queue text, worker text, n integer, lease_ms integer)
RETURNS TABLE (job_id uuid, kind text, document_id uuid, attempt integer, max_attempts integer, fence bigint, lease_token text, ticket text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    taken  record;
    token  text;
    chosen bigint[];
BEGIN
    IF num_nulls(claim.queue, claim.worker, claim.n, claim.lease_ms) <> 0 THEN
        RAISE EXCEPTION 'claim: NULL' USING ERRCODE = '22004';
    END IF;
    -- one statement that locks, then one row each: the token must be fresh per job
    chosen := ARRAY(SELECT j.seq FROM jobs.jobs j
        WHERE j.queue = claim.queue AND j.state = 'queued' AND j.run_after <= clock_timestamp() AND j.attempt < j.max_attempts
          AND EXISTS (SELECT FROM auth.tenants t WHERE t.id = j.tenant_id AND t.status = 'active')
        ORDER BY j.priority, j.run_after, j.seq
        LIMIT least(greatest(claim.n, 0), 100)
        FOR UPDATE OF j SKIP LOCKED);
    FOR taken IN
        SELECT j.tenant_id, j.id, j.user_id, j.kind, j.document_id, j.attempt + 1 AS attempt, j.max_attempts, j.seq,
               nextval('jobs.fence') AS fence
            FROM jobs.jobs j WHERE j.seq = ANY (chosen) ORDER BY j.priority, j.run_after, j.seq
    LOOP
        token := encode(ext.gen_random_bytes(16), 'hex');
        UPDATE jobs.jobs j SET state = 'running', attempt = taken.attempt, fence = taken.fence, lease_owner = left(claim.worker, 128),
                lease_until = clock_timestamp() + least(greatest(claim.lease_ms, 100), 300000) * interval '1 ms',
                lease_hash = encode(ext.digest(token, 'sha256'), 'hex')
            WHERE j.seq = taken.seq;
        job_id := taken.id;
        kind := taken.kind;
        document_id := taken.document_id;
        attempt := taken.attempt;
        max_attempts := taken.max_attempts;
        fence := taken.fence;
        lease_token := token;
        ticket := authz.mint_job(taken.tenant_id, taken.user_id, taken.kind, taken.id, taken.document_id, taken.fence,
                                 encode(ext.digest(token, 'sha256'), 'hex'));
        RETURN NEXT;
    END LOOP;
END $$;

CREATE FUNCTION jobs.renew(job_id uuid, fence bigint, lease_token text, lease_ms integer) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hashed  text := encode(ext.digest(renew.lease_token, 'sha256'), 'hex');
    held    record;
BEGIN
    UPDATE jobs.jobs j SET lease_until = clock_timestamp() + least(greatest(renew.lease_ms, 100), 300000) * interval '1 ms'
        WHERE j.id = renew.job_id AND j.fence = renew.fence AND j.lease_hash = hashed
          AND j.state = 'running' AND j.lease_until > clock_timestamp() AND renew.lease_ms IS NOT NULL
        RETURNING j.tenant_id, j.user_id, j.kind, j.document_id INTO held;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN authz.mint_job(held.tenant_id, held.user_id, held.kind, renew.job_id, held.document_id, renew.fence, hashed);
END $$;

CREATE OR REPLACE FUNCTION jobs.end_attempt(p_seq bigint, p_reason_code text, p_how text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own        jobs.jobs;
    is_outage  boolean := p_how = 'outage';
    is_over    boolean;
    delay_s    double precision;
BEGIN
    SELECT * INTO STRICT own FROM jobs.jobs j WHERE j.seq = p_seq AND j.state = 'running';
    is_over := CASE p_how WHEN 'permanent' THEN true
                          WHEN 'counted' THEN own.attempt >= own.max_attempts
                          WHEN 'outage' THEN coalesce(own.outage_since < clock_timestamp() - interval '24 h', false) END;
    delay_s := random() * least(30, CASE WHEN is_outage THEN 0.5 * power(2, least(own.outages, 10)) ELSE power(2, least(own.attempt, 10)) END);
    UPDATE jobs.jobs j SET
            state = CASE WHEN is_over THEN 'dead' ELSE 'queued' END,
            done_at = CASE WHEN is_over THEN clock_timestamp() END,
            run_after = clock_timestamp() + delay_s * interval '1 s',
            attempt = own.attempt - CASE WHEN is_outage AND NOT is_over THEN 1 ELSE 0 END,
            outages = own.outages + CASE WHEN is_outage THEN 1 ELSE 0 END,
            outage_since = CASE WHEN is_outage THEN coalesce(own.outage_since, clock_timestamp()) ELSE own.outage_since END,
            reason_code = p_reason_code, lease_owner = NULL, lease_until = NULL, lease_hash = NULL
        WHERE j.seq = p_seq;
    IF NOT is_over THEN
        RETURN 'queued';
    END IF;
    IF own.kind = 'ingest' THEN
        UPDATE app.documents d SET status = 'failed', reason_code = p_reason_code
            WHERE d.tenant_id = own.tenant_id AND d.id = own.document_id AND d.status = 'processing';
        IF FOUND THEN           -- the vectors go with their chunks
            DELETE FROM app.chunks k WHERE k.tenant_id = own.tenant_id AND k.document_id = own.document_id;
        END IF;
    END IF;
    RETURN 'dead';
END $$;

CREATE FUNCTION jobs.reap(queue text, OUT requeued bigint, OUT dead bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    expired  bigint;
BEGIN
    requeued := 0;
    dead := 0;
    FOREACH expired IN ARRAY ARRAY(SELECT j.seq FROM jobs.jobs j
        WHERE j.queue = reap.queue AND j.state = 'running' AND j.lease_until < clock_timestamp()
        ORDER BY j.lease_until LIMIT 100 FOR UPDATE SKIP LOCKED)
    LOOP
        IF jobs.end_attempt(expired, 'worker_lost', 'counted') = 'dead' THEN
            dead := dead + 1;
        ELSE
            requeued := requeued + 1;
        END IF;
    END LOOP;
    IF requeued > 0 THEN
        PERFORM pg_notify('jobs_' || reap.queue, '');
    END IF;
END $$;

CREATE OR REPLACE FUNCTION jobs.release(delay_ms integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  bigint := jobs.own_job();
    q    text;
BEGIN
    IF release.delay_ms IS NULL THEN
        RAISE EXCEPTION 'release: NULL' USING ERRCODE = '22004';
    END IF;
    UPDATE jobs.jobs j SET state = 'queued', attempt = j.attempt - 1,
            run_after = clock_timestamp() + least(greatest(release.delay_ms, 0), 300000) * interval '1 ms',
            lease_owner = NULL, lease_until = NULL, lease_hash = NULL
        WHERE j.seq = own RETURNING j.queue INTO q;
    PERFORM pg_notify('jobs_' || q, '');
END $$;

CREATE OR REPLACE FUNCTION jobs.depth() RETURNS TABLE (queue text, state text, jobs bigint, oldest_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT j.queue, j.state, count(*), greatest(0, (extract(epoch FROM clock_timestamp() - min(j.created_at)) * 1000)::bigint)
        FROM jobs.jobs j WHERE j.state <> 'succeeded' GROUP BY j.queue, j.state ORDER BY j.queue, j.state
$$;

GRANT EXECUTE ON FUNCTION jobs.claim(text, text, integer, integer), jobs.renew(uuid, bigint, text, integer), jobs.reap(text) TO cordon_jobs;
RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA jobs FROM cordon_jobs_definer;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;
DROP FUNCTION audit.on_jobs_removed();

CREATE OR REPLACE FUNCTION audit.on_job() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM audit.record('job.enqueue', NEW.tenant_id, NEW.id, ARRAY[NEW.document_id],
            jsonb_build_object('queue', NEW.queue, 'kind', NEW.kind));
    ELSIF NEW.state <> OLD.state AND NEW.state IN ('succeeded', 'dead') THEN
        PERFORM audit.record(CASE NEW.state WHEN 'dead' THEN 'job.dead' ELSE 'job.complete' END, NEW.tenant_id, NEW.id, ARRAY[NEW.document_id],
            jsonb_build_object('queue', NEW.queue, 'kind', NEW.kind, 'attempt', NEW.attempt, 'reason', NEW.reason_code));
    END IF;
    RETURN NULL;
END $$;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
