-- Background work. A row here, committed before anybody is told 202, is the only copy of a job; NOTIFY says "look now".
--
-- A worker claims a job as cordon_jobs (a role without tenant tables), which gives it a lease on database time, a fence
-- number and a ticket for that one document. It writes under that ticket as cordon_ingest; effect and completion commit
-- together. States and legal moves are in jobs.moves, compared with common/db/job_states.def by a test.

SET LOCAL ROLE cordon_owner;

CREATE TABLE jobs.moves (
    from_state  text NOT NULL,
    to_state    text NOT NULL,
    by_what     text NOT NULL,
    PRIMARY KEY (from_state, to_state)
);
INSERT INTO jobs.moves (from_state, to_state, by_what) VALUES
    ('queued',  'running',   'claim'),
    ('running', 'queued',    'fail, postpone, release, reap'),
    ('running', 'succeeded', 'complete'),
    ('running', 'dead',      'fail, postpone, reap');

CREATE SEQUENCE jobs.fence;

CREATE TABLE jobs.jobs (
    tenant_id     uuid NOT NULL,
    id            uuid NOT NULL,
    seq           bigint NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    queue         text NOT NULL CHECK (queue ~ '^[a-z][a-z_]{0,31}$'),
    kind          text NOT NULL CHECK (kind ~ '^[a-z][a-z_]{0,31}$'),
    document_id   uuid NOT NULL,
    user_id       uuid NOT NULL,
    state         text NOT NULL DEFAULT 'queued' CONSTRAINT jobs_state CHECK (state IN ('queued', 'running', 'succeeded', 'dead')),
    stage         text CHECK (stage ~ '^[a-z][a-z_]{0,31}$'),
    priority      smallint NOT NULL DEFAULT 100,        -- lower is sooner
    attempt       integer NOT NULL DEFAULT 0 CHECK (attempt BETWEEN 0 AND max_attempts),
    max_attempts  integer NOT NULL DEFAULT 5 CHECK (max_attempts BETWEEN 1 AND 100),
    outages       integer NOT NULL DEFAULT 0 CHECK (outages >= 0),      -- attempts that something else cut short, in a row
    outage_since  timestamptz,                          -- when the first of them ended
    run_after     timestamptz NOT NULL DEFAULT now(),
    lease_owner   text,
    lease_until   timestamptz,
    lease_hash    text,                                 -- SHA-256 of the token that only its holder has
    fence         bigint NOT NULL DEFAULT 0,
    reason_code   text CHECK (reason_code ~ '^[A-Za-z][A-Za-z0-9_]{0,63}$'),
    cancel_requested_at timestamptz,
    pages_done    integer NOT NULL DEFAULT 0 CHECK (pages_done >= 0),
    chunks_done   integer NOT NULL DEFAULT 0 CHECK (chunks_done >= 0),
    chunks_total  integer CHECK (chunks_total >= 0),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    done_at       timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, document_id) REFERENCES app.documents (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id),
    CHECK ((state = 'running') = (num_nulls(lease_owner, lease_until, lease_hash) = 0)),
    CHECK (state = 'running' OR num_nonnulls(lease_owner, lease_until, lease_hash) = 0),
    CHECK ((state IN ('succeeded', 'dead')) = (done_at IS NOT NULL)),
    CHECK ((outages = 0) = (outage_since IS NULL)),
    CHECK (state <> 'dead' OR reason_code IS NOT NULL)
);
CREATE INDEX jobs_ready ON jobs.jobs (queue, priority, run_after, seq) WHERE state = 'queued';
CREATE INDEX jobs_leased ON jobs.jobs (queue, lease_until) WHERE state = 'running';
CREATE INDEX jobs_unfinished ON jobs.jobs (queue, state, created_at) WHERE state <> 'succeeded';
CREATE INDEX jobs_id ON jobs.jobs (id);       -- not unique: another tenant's ids must not be probed by inserting them
CREATE INDEX jobs_document ON jobs.jobs (tenant_id, document_id);

CREATE FUNCTION jobs.check_move() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.state <> OLD.state AND NOT EXISTS (
            SELECT FROM jobs.moves m WHERE m.from_state = OLD.state AND m.to_state = NEW.state) THEN
        RAISE EXCEPTION 'job: % cannot become %', OLD.state, NEW.state USING ERRCODE = '23514';
    END IF;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER check_move BEFORE UPDATE ON jobs.jobs FOR EACH ROW EXECUTE FUNCTION jobs.check_move();
ALTER TABLE jobs.jobs ENABLE ALWAYS TRIGGER check_move;

ALTER TABLE jobs.jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE jobs.jobs FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON jobs.jobs TO cordon_jobs_definer USING (true) WITH CHECK (true);
CREATE POLICY query_reads ON jobs.jobs FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('documents:read')));

GRANT SELECT, INSERT, UPDATE ON jobs.jobs TO cordon_jobs_definer;
GRANT SELECT ON jobs.moves TO cordon_jobs_definer;
GRANT USAGE ON SEQUENCE jobs.fence TO cordon_jobs_definer;
GRANT SELECT (tenant_id, id, queue, kind, document_id, state, stage, attempt, max_attempts, reason_code, created_at, updated_at,
              done_at, pages_done, chunks_done, chunks_total) ON jobs.jobs TO cordon_query;

GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
RESET ROLE;
SET LOCAL ROLE cordon_jobs_definer;

-- Is this the lease that the job has, and is it still running? p_locks keeps the row locked for this transaction, so
-- that reap() and claim() pass it by until the transaction is over. KEY SHARE: renew() need not wait for that.
CREATE FUNCTION jobs.lease_is_held(c authz.claims, p_locks boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_locks THEN
        PERFORM FROM jobs.jobs j WHERE j.tenant_id = c.tenant_id AND j.id = c.job_id AND j.fence = c.fence FOR KEY SHARE;
    END IF;
    PERFORM FROM jobs.jobs j
        WHERE j.tenant_id = c.tenant_id AND j.id = c.job_id AND j.document_id = c.document_id AND j.fence = c.fence
          AND j.lease_hash = c.lease_hash AND j.state = 'running' AND j.lease_until > clock_timestamp();
    RETURN FOUND;
END $$;

-- The place where writing into a document and deleting it meet: a deletion under way is waited for, and one that comes
-- now waits, and then finds everything that this transaction has written. Raises 23503 for a document that is deleted,
-- as for one that never was.
CREATE FUNCTION jobs.hold_document(p_tenant_id uuid, p_document_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM app.documents d WHERE d.tenant_id = p_tenant_id AND d.id = p_document_id AND d.status = 'processing' FOR SHARE;
    PERFORM FROM app.documents d WHERE d.tenant_id = p_tenant_id AND d.id = p_document_id AND d.status <> 'deleted';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such document' USING ERRCODE = '23503';
    END IF;
END $$;

-- Accept work on a document of the ticket's tenant, in the name of the ticket's user. The same job twice is one job.
CREATE FUNCTION jobs.enqueue(job_id uuid, queue text, kind text, document_id uuid) RETURNS uuid
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

-- Take up to n jobs of a queue. The lease is capped here, whatever the worker asks for.
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

-- Prolong a lease that is still held; the answer is the next ticket, NULL when the job is somebody else's by now.
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

-- The end of one attempt that did not succeed: back to the queue after a full-jitter delay, or dead, and then the
-- document is 'failed' and what was made of it is gone in the same transaction. p_how:
--   permanent  the document is to blame, and would be again
--   counted    perhaps the document: it may take max_attempts in a row that get no further
--   outage     something that the document needs was away: not counted, but after a day of it nobody waits any more
CREATE FUNCTION jobs.end_attempt(p_seq bigint, p_reason_code text, p_how text) RETURNS text
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

-- Leases that ran out: their worker died or stopped. Call it on a timer from every replica; each job is reaped once.
-- FOR UPDATE, here and in claim(), is the lock that passes by a job in whose name a transaction is under way.
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

-- Unfinished and dead jobs of every queue; age since creation of the oldest.
CREATE FUNCTION jobs.depth() RETURNS TABLE (queue text, state text, jobs bigint, oldest_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT j.queue, j.state, count(*), greatest(0, (extract(epoch FROM clock_timestamp() - min(j.created_at)) * 1000)::bigint)
        FROM jobs.jobs j WHERE j.state <> 'succeeded' GROUP BY j.queue, j.state ORDER BY j.queue, j.state
$$;

-- The job of the ticket in this transaction, locked; raises CJ001 when its lease was lost meanwhile.
CREATE FUNCTION jobs.own_job() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c    authz.claims := authz.current_claims();
    own  bigint;
BEGIN
    IF (c.kind = 'job') IS NOT TRUE THEN
        RAISE EXCEPTION 'not a job' USING ERRCODE = '42501';
    END IF;
    SELECT j.seq INTO own FROM jobs.jobs j
        WHERE j.tenant_id = c.tenant_id AND j.id = c.job_id AND j.fence = c.fence AND j.lease_hash = c.lease_hash AND j.state = 'running'
        FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'job: lease lost' USING ERRCODE = 'CJ001';
    END IF;
    RETURN own;
END $$;

-- Raises 23503 when the document was deleted meanwhile. NULL leaves a value as it is. Who gets further than anybody
-- before is not stuck: what counts towards giving up begins anew.
CREATE FUNCTION jobs.progress(stage text, pages_done integer, chunks_done integer, chunks_total integer) RETURNS void
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

-- Done. The worker has set its document 'ready' before, in this same transaction.
CREATE FUNCTION jobs.complete() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  bigint := jobs.own_job();
BEGIN
    UPDATE jobs.jobs j SET state = 'succeeded', done_at = clock_timestamp(), reason_code = NULL,
            lease_owner = NULL, lease_until = NULL, lease_hash = NULL
        WHERE j.seq = own;
END $$;

-- Not done. A permanent failure, or the last attempt, makes the job dead and its document failed. Returns the new state.
CREATE FUNCTION jobs.fail(reason_code text, permanent boolean) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF num_nulls(fail.reason_code, fail.permanent) <> 0 THEN
        RAISE EXCEPTION 'fail: NULL' USING ERRCODE = '22004';
    END IF;
    RETURN jobs.end_attempt(jobs.own_job(), fail.reason_code, CASE WHEN fail.permanent THEN 'permanent' ELSE 'counted' END);
END $$;

-- Not done, because something that it needs is away: reason_code says what. Returns the new state.
CREATE FUNCTION jobs.postpone(reason_code text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF postpone.reason_code IS NULL THEN
        RAISE EXCEPTION 'postpone: NULL' USING ERRCODE = '22004';
    END IF;
    RETURN jobs.end_attempt(jobs.own_job(), postpone.reason_code, 'outage');
END $$;

-- Not done, because the worker itself stops: the job goes back as if this attempt had not been, for others to take.
CREATE FUNCTION jobs.release(delay_ms integer) RETURNS void
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

GRANT EXECUTE ON FUNCTION jobs.lease_is_held(authz.claims, boolean) TO cordon_authz_definer;
GRANT EXECUTE ON FUNCTION jobs.enqueue(uuid, text, text, uuid), jobs.progress(text, integer, integer, integer), jobs.complete(),
    jobs.fail(text, boolean), jobs.postpone(text), jobs.release(integer) TO cordon_ingest;
GRANT EXECUTE ON FUNCTION jobs.claim(text, text, integer, integer), jobs.renew(uuid, bigint, text, integer), jobs.reap(text),
    jobs.depth() TO cordon_jobs;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA jobs FROM cordon_jobs_definer;
RESET ROLE;
