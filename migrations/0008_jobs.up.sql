-- Jobs that tenants share fairly, that people can cancel and retry, and whose dead workers are noticed at once; and
-- scheduled work, run once however many replicas there are.

SET LOCAL ROLE cordon_owner;

------------------------------------------------------------------------------------------------- states and columns

INSERT INTO jobs.moves (from_state, to_state, by_what) VALUES
    ('queued',    'cancelled', 'cancel'),
    ('running',   'cancelled', 'fail, postpone, release, reap'),
    ('dead',      'queued',    'retry'),
    ('cancelled', 'queued',    'retry');

ALTER TABLE jobs.jobs
    DROP CONSTRAINT jobs_state,
    DROP CONSTRAINT jobs_check3,        -- of done_at
    ADD CONSTRAINT jobs_state CHECK (state IN ('queued', 'running', 'succeeded', 'dead', 'cancelled')),
    ADD CONSTRAINT jobs_done CHECK ((state IN ('succeeded', 'dead', 'cancelled')) = (done_at IS NOT NULL)),
    ADD CONSTRAINT jobs_cancelled CHECK (state <> 'cancelled' OR cancel_requested_at IS NOT NULL),
    ADD COLUMN lease_session integer,   -- of the worker, see jobs.attend(); NULL: only its lease tells that it lives
    ADD COLUMN traceparent text CHECK (traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$');

-- Tenants are found by skipping through jobs_ready, and jobs_turn tells who was served last. Nothing that a renewal or a
-- step forward changes is in an index.
DROP INDEX jobs.jobs_ready, jobs.jobs_leased, jobs.jobs_unfinished;
CREATE INDEX jobs_ready ON jobs.jobs (queue, tenant_id, priority, run_after, seq) WHERE state = 'queued';
CREATE INDEX jobs_turn ON jobs.jobs (queue, fence) WHERE fence > 0;
CREATE INDEX jobs_leased ON jobs.jobs (queue, tenant_id) WHERE state = 'running';
CREATE INDEX jobs_unfinished ON jobs.jobs (queue, state, created_at) WHERE state IN ('queued', 'running', 'dead');
CREATE INDEX jobs_stuck ON jobs.jobs (queue, kind, reason_code, outage_since) WHERE state = 'queued' AND outages > 0;
CREATE INDEX jobs_open ON jobs.jobs (tenant_id, id) WHERE state <> 'succeeded';
CREATE INDEX jobs_old ON jobs.jobs (done_at) WHERE state IN ('succeeded', 'cancelled');

CREATE SEQUENCE jobs.sessions AS integer CYCLE;
GRANT USAGE ON SEQUENCE jobs.sessions TO cordon_jobs_definer;
GRANT DELETE ON jobs.jobs TO cordon_jobs_definer;
GRANT SELECT (priority, cancel_requested_at) ON jobs.jobs TO cordon_query;

-- A failed document is worked on again, but only with its job: nobody who may write documents can do it by hand.
ALTER TABLE app.document_moves ADD COLUMN only_by name;
INSERT INTO app.document_moves (from_status, to_status, only_by) VALUES ('failed', 'processing', 'cordon_jobs_definer');
CREATE POLICY jobs_definer_retries ON app.documents FOR UPDATE TO cordon_jobs_definer USING (status = 'failed') WITH CHECK (status = 'processing');

CREATE OR REPLACE FUNCTION app.check_document_move() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.tenant_id, NEW.id, NEW.created_by, NEW.created_at) IS DISTINCT FROM (OLD.tenant_id, OLD.id, OLD.created_by, OLD.created_at) THEN
        RAISE EXCEPTION 'document: its identity cannot change' USING ERRCODE = '23514';
    END IF;
    IF NEW.status <> OLD.status AND NOT EXISTS (
            SELECT FROM app.document_moves m WHERE m.from_status = OLD.status AND m.to_status = NEW.status
                AND (m.only_by IS NULL OR m.only_by = current_user)) THEN
        RAISE EXCEPTION 'document: % cannot become %', OLD.status, NEW.status USING ERRCODE = '23514';
    END IF;
    NEW.updated_at := now();
    IF NEW.status = 'ready' AND OLD.status <> 'ready' THEN
        NEW.ready_at := now();
    END IF;
    RETURN NEW;
END $$;

------------------------------------------------------------------------------------------------- schedules

CREATE TABLE jobs.schedules (
    name              text PRIMARY KEY CHECK (name ~ '^[a-z][a-z_]{0,31}$'),
    every             interval NOT NULL CHECK (every >= interval '1 s'),
    next_run_at       timestamptz NOT NULL,     -- with `every` of a day, also the time of day
    last_started_at   timestamptz,
    last_finished_at  timestamptz,
    last_success_at   timestamptz,
    last_outcome      text CHECK (last_outcome ~ '^[A-Za-z][A-Za-z0-9_]{0,63}$'),    -- 'done', or why not
    lease_owner       text,
    lease_until       timestamptz,
    fence             bigint NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL))
);
INSERT INTO jobs.schedules (name, every, next_run_at) VALUES
    ('janitor', '1 min', now()),
    ('purge',   '1 day', date_trunc('day', now(), 'UTC') + interval '1 day 3 h');

ALTER TABLE jobs.schedules ENABLE ROW LEVEL SECURITY;
ALTER TABLE jobs.schedules FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON jobs.schedules TO cordon_jobs_definer USING (true) WITH CHECK (true);
GRANT SELECT, UPDATE (next_run_at, last_started_at, last_finished_at, last_success_at, last_outcome, lease_owner, lease_until, fence)
    ON jobs.schedules TO cordon_jobs_definer;

GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
RESET ROLE;
SET LOCAL ROLE cordon_jobs_definer;

------------------------------------------------------------------------------------------------- enqueue

-- As the one without priority, whose jobs have 100. Lower is sooner, among the tenant's own jobs: interactive work says
-- 50, bulk work 200.
CREATE FUNCTION jobs.enqueue(job_id uuid, queue text, kind text, document_id uuid, priority integer) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c      authz.claims := authz.current_claims();
    trace  text := current_setting('cordon.traceparent', true);
BEGIN
    IF (c.kind = 'user' AND c.tenant_id IS NOT NULL AND 'documents:write' = ANY (c.scopes)) IS NOT TRUE THEN
        RAISE EXCEPTION 'documents:write is missing' USING ERRCODE = '42501';
    END IF;
    IF (enqueue.priority BETWEEN 0 AND 1000) IS NOT TRUE THEN
        RAISE EXCEPTION 'priority' USING ERRCODE = '22003';
    END IF;
    PERFORM jobs.hold_document(c.tenant_id, enqueue.document_id);
    INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id, priority, traceparent)
        VALUES (c.tenant_id, enqueue.job_id, enqueue.queue, enqueue.kind, enqueue.document_id, c.user_id, enqueue.priority,
                CASE WHEN trace ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$' THEN trace END)
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

CREATE OR REPLACE FUNCTION jobs.enqueue(job_id uuid, queue text, kind text, document_id uuid) RETURNS uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT jobs.enqueue(job_id, queue, kind, document_id, 100)
$$;

------------------------------------------------------------------------------------------------- claim

-- A worker that keeps one session open for as long as it lives says so here, in that session: while the session is
-- there, so is the worker; reap() is for other sessions. Pass NULL for a number of its own, and that number again after a reconnect. False: an older
-- session of it is still there; ask again.
CREATE FUNCTION jobs.attend(INOUT session integer, OUT is_attended boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    session := coalesce(session, nextval('jobs.sessions')::integer);
    is_attended := pg_try_advisory_lock(1785684595, session);       -- 'jobs'
END $$;

-- The order in which a queue's jobs are taken, as far as p_n of them are wanted; some more, because others may be taking
-- these now. Tenants take turns: who has the fewest running comes first, and then who is next after the tenant that was
-- served last. Within a tenant, by priority. So a tenant's backlog and its priorities cost only the tenant itself. Each
-- step is a lookup in an index, whatever waits behind it, and the settings see to that while statistics know nothing of it.
CREATE FUNCTION jobs.line(p_queue text, p_n integer) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
DECLARE
    nil      CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    last     uuid;
    at       uuid;
    wraps    boolean := false;
    waiting  uuid[] := '{}';
BEGIN
    SELECT j.tenant_id INTO last FROM jobs.jobs j WHERE j.queue = p_queue AND j.fence > 0 ORDER BY j.fence DESC LIMIT 1;
    last := coalesce(last, nil);
    at := last;
    WHILE cardinality(waiting) < 100 LOOP
        SELECT j.tenant_id INTO at FROM jobs.jobs j WHERE j.queue = p_queue AND j.state = 'queued' AND j.tenant_id > at
            ORDER BY j.tenant_id LIMIT 1;
        EXIT WHEN wraps AND (at IS NULL OR at > last);
        IF at IS NULL THEN
            wraps := true;
            at := nil;
        ELSIF EXISTS (SELECT FROM auth.tenants t WHERE t.id = at AND t.status = 'active')
              AND EXISTS (SELECT FROM jobs.jobs j WHERE j.queue = p_queue AND j.tenant_id = at AND j.state = 'queued'
                          AND j.run_after <= clock_timestamp() AND j.attempt < j.max_attempts) THEN
            waiting := waiting || at;
        END IF;
    END LOOP;
    RETURN QUERY
    WITH running AS MATERIALIZED (
        SELECT j.tenant_id, count(*) AS jobs FROM jobs.jobs j WHERE j.queue = p_queue AND j.state = 'running' GROUP BY j.tenant_id
    )
    SELECT c.seq
        FROM unnest(waiting) WITH ORDINALITY w (tenant_id, turn)
        LEFT JOIN running r ON r.tenant_id = w.tenant_id
        CROSS JOIN LATERAL (SELECT h.seq, row_number() OVER () AS place FROM (SELECT j.seq FROM jobs.jobs j
            WHERE j.queue = p_queue AND j.tenant_id = w.tenant_id AND j.state = 'queued'
              AND j.run_after <= clock_timestamp() AND j.attempt < j.max_attempts
            ORDER BY j.priority, j.run_after, j.seq LIMIT p_n + 16) h) c
        ORDER BY coalesce(r.jobs, 0) + c.place, w.turn
        LIMIT 4 * p_n + 64;
END $$;

-- Take up to n jobs of a queue. The lease is capped here, whatever the worker asks for. session: of jobs.attend().
DROP FUNCTION jobs.claim(text, text, integer, integer);
CREATE FUNCTION jobs.claim(queue text, worker text, n integer, lease_ms integer, session integer DEFAULT NULL)
RETURNS TABLE (job_id uuid, kind text, document_id uuid, attempt integer, max_attempts integer, fence bigint, lease_token text, ticket text,
               traceparent text, waited_ms bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wanted  integer := least(greatest(claim.n, 0), 100);
    chosen  bigint;
    taken   jobs.jobs;
    token   text;
BEGIN
    IF num_nulls(claim.queue, claim.worker, claim.n, claim.lease_ms) <> 0 THEN
        RAISE EXCEPTION 'claim: NULL' USING ERRCODE = '22004';
    END IF;
    FOR chosen IN SELECT l.seq FROM jobs.line(claim.queue, wanted) l (seq) LOOP
        EXIT WHEN wanted = 0;
        SELECT j.* INTO taken FROM jobs.jobs j
            WHERE j.seq = chosen AND j.state = 'queued' AND j.run_after <= clock_timestamp() FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;        -- somebody else takes it
        wanted := wanted - 1;
        waited_ms := (extract(epoch FROM clock_timestamp() - greatest(taken.run_after, taken.created_at)) * 1000)::bigint;
        token := encode(ext.gen_random_bytes(16), 'hex');
        UPDATE jobs.jobs j SET state = 'running', attempt = taken.attempt + 1, fence = nextval('jobs.fence'), lease_owner = left(claim.worker, 128),
                lease_until = clock_timestamp() + least(greatest(claim.lease_ms, 100), 300000) * interval '1 ms',
                lease_hash = encode(ext.digest(token, 'sha256'), 'hex'), lease_session = claim.session
            WHERE j.seq = chosen RETURNING j.* INTO taken;
        job_id := taken.id;
        kind := taken.kind;
        document_id := taken.document_id;
        attempt := taken.attempt;
        max_attempts := taken.max_attempts;
        fence := taken.fence;
        lease_token := token;
        ticket := authz.mint_job(taken.tenant_id, taken.user_id, taken.kind, taken.id, taken.document_id, taken.fence, taken.lease_hash);
        traceparent := taken.traceparent;
        RETURN NEXT;
    END LOOP;
END $$;

-- Prolong a lease that is still held; the answer is the next ticket, NULL when the job is somebody else's by now. session:
-- of jobs.attend(), also for a job that was claimed before there was one.
DROP FUNCTION jobs.renew(uuid, bigint, text, integer);
CREATE FUNCTION jobs.renew(job_id uuid, fence bigint, lease_token text, lease_ms integer, session integer DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hashed  text := encode(ext.digest(renew.lease_token, 'sha256'), 'hex');
    held    record;
BEGIN
    UPDATE jobs.jobs j SET lease_until = clock_timestamp() + least(greatest(renew.lease_ms, 100), 300000) * interval '1 ms',
            lease_session = coalesce(renew.session, j.lease_session)
        WHERE j.id = renew.job_id AND j.fence = renew.fence AND j.lease_hash = hashed
          AND j.state = 'running' AND j.lease_until > clock_timestamp() AND renew.lease_ms IS NOT NULL
        RETURNING j.tenant_id, j.user_id, j.kind, j.document_id INTO held;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN authz.mint_job(held.tenant_id, held.user_id, held.kind, renew.job_id, held.document_id, renew.fence, hashed);
END $$;

------------------------------------------------------------------------------------------------- the end of an attempt

-- The document of a job that is over without success is 'failed', and what was made of it is gone.
CREATE FUNCTION jobs.fail_document(own jobs.jobs, p_reason_code text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF own.kind = 'ingest' THEN
        UPDATE app.documents d SET status = 'failed', reason_code = p_reason_code
            WHERE d.tenant_id = own.tenant_id AND d.id = own.document_id AND d.status = 'processing';
        IF FOUND THEN           -- the vectors go with their chunks
            DELETE FROM app.chunks k WHERE k.tenant_id = own.tenant_id AND k.document_id = own.document_id;
        END IF;
    END IF;
END $$;

-- The end of one attempt that did not succeed: back to the queue after a full-jitter delay, or dead or cancelled, and
-- then the document is 'failed' in the same transaction. p_how:
--   permanent  the document is to blame, and would be again
--   counted    perhaps the document: it may take max_attempts in a row that get no further
--   lost       its worker died, perhaps of it: counted, but the first time others may take it at once
--   outage     something that the document needs was away: not counted, but after a day of it nobody waits any more
--   released   the worker stops: as if this attempt had not been
-- Who asked for the job to be cancelled is heard here, whatever the reason of the end.
CREATE OR REPLACE FUNCTION jobs.end_attempt(p_seq bigint, p_reason_code text, p_how text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own        jobs.jobs;
    is_outage  boolean := p_how = 'outage';
    becomes    text;
    delay_s    double precision;
BEGIN
    SELECT * INTO STRICT own FROM jobs.jobs j WHERE j.seq = p_seq AND j.state = 'running';
    becomes := CASE WHEN own.cancel_requested_at IS NOT NULL THEN 'cancelled'
                 WHEN p_how = 'permanent' THEN 'dead'
                 WHEN p_how IN ('counted', 'lost') AND own.attempt >= own.max_attempts THEN 'dead'
                 WHEN is_outage AND own.outage_since < clock_timestamp() - interval '24 h' THEN 'dead'
                 ELSE 'queued' END;
    delay_s := random() * least(30, CASE p_how WHEN 'outage' THEN 0.5 * power(2, least(own.outages, 10))
                                               WHEN 'lost' THEN power(2, least(own.attempt, 10) - 1) - 1
                                               WHEN 'released' THEN 0
                                               ELSE power(2, least(own.attempt, 10)) END);
    UPDATE jobs.jobs j SET
            state = becomes,
            done_at = CASE WHEN becomes <> 'queued' THEN clock_timestamp() END,
            run_after = CASE WHEN delay_s = 0 THEN own.run_after ELSE clock_timestamp() + delay_s * interval '1 s' END,      -- its place in the line
            attempt = own.attempt - CASE WHEN p_how IN ('outage', 'released') AND becomes = 'queued' THEN 1 ELSE 0 END,
            outages = own.outages + CASE WHEN is_outage THEN 1 ELSE 0 END,
            outage_since = CASE WHEN is_outage THEN coalesce(own.outage_since, clock_timestamp()) ELSE own.outage_since END,
            reason_code = CASE WHEN becomes = 'cancelled' THEN 'cancelled' ELSE coalesce(p_reason_code, own.reason_code) END,
            lease_owner = NULL, lease_until = NULL, lease_hash = NULL
        WHERE j.seq = p_seq;
    IF becomes <> 'queued' THEN
        PERFORM jobs.fail_document(own, CASE WHEN becomes = 'cancelled' THEN 'cancelled' ELSE p_reason_code END);
    ELSIF delay_s = 0 THEN
        PERFORM pg_notify('jobs_' || own.queue, '');
    END IF;
    RETURN becomes;
END $$;

-- Not done, because the worker itself stops: the job goes back as if this attempt had not been, for others to take.
CREATE OR REPLACE FUNCTION jobs.release(delay_ms integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  bigint := jobs.own_job();
BEGIN
    IF release.delay_ms IS NULL THEN
        RAISE EXCEPTION 'release: NULL' USING ERRCODE = '22004';
    END IF;
    IF jobs.end_attempt(own, NULL, 'released') = 'queued' AND release.delay_ms > 0 THEN
        UPDATE jobs.jobs j SET run_after = clock_timestamp() + least(release.delay_ms, 300000) * interval '1 ms' WHERE j.seq = own;
    END IF;
END $$;

-- Leases that ran out: their worker died or stopped. Call it on a timer from every replica; each job is reaped once.
-- The lease of a worker whose session is gone (see jobs.attend) is cut to what a living one needs to come back and
-- renew it. stop: the jobs of the caller's own session that somebody asked to cancel. FOR UPDATE, here and in claim(),
-- is the lock that passes by a job in whose name a transaction is under way.
DROP FUNCTION jobs.reap(text);
CREATE FUNCTION jobs.reap(queue text, session integer DEFAULT NULL, OUT requeued bigint, OUT dead bigint, OUT cancelled bigint, OUT stop uuid[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    grace    CONSTANT interval := '600 ms';
    gone     integer[];
    expired  bigint;
BEGIN
    requeued := 0;
    dead := 0;
    cancelled := 0;
    gone := ARRAY(SELECT s.lease_session
        FROM (SELECT DISTINCT j.lease_session FROM jobs.jobs j WHERE j.queue = reap.queue AND j.state = 'running' AND j.lease_session IS NOT NULL
              OFFSET 0) s
        WHERE pg_try_advisory_xact_lock_shared(1785684595, s.lease_session));
    IF cardinality(gone) > 0 THEN
        UPDATE jobs.jobs j SET lease_until = clock_timestamp() + grace WHERE j.seq = ANY (ARRAY(SELECT k.seq FROM jobs.jobs k
            WHERE k.queue = reap.queue AND k.state = 'running' AND k.lease_session = ANY (gone) AND k.lease_until > clock_timestamp() + grace
            FOR NO KEY UPDATE SKIP LOCKED));
    END IF;
    FOREACH expired IN ARRAY ARRAY(SELECT j.seq FROM jobs.jobs j
        WHERE j.queue = reap.queue AND j.state = 'running' AND j.lease_until < clock_timestamp()
        ORDER BY j.lease_until LIMIT 100 FOR UPDATE SKIP LOCKED)
    LOOP
        CASE jobs.end_attempt(expired, 'worker_lost', 'lost')
            WHEN 'dead' THEN dead := dead + 1;
            WHEN 'cancelled' THEN cancelled := cancelled + 1;
            ELSE requeued := requeued + 1;
        END CASE;
    END LOOP;
    stop := ARRAY(SELECT j.id FROM jobs.jobs j WHERE j.queue = reap.queue AND j.state = 'running' AND j.lease_session = reap.session
                  AND j.cancel_requested_at IS NOT NULL);
END $$;

------------------------------------------------------------------------------------------------- people

-- A job of the ticket's tenant, locked; an empty row when there is none.
CREATE FUNCTION jobs.of_tenant(job_id uuid) RETURNS jobs.jobs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c      authz.claims := authz.current_claims();
    found  jobs.jobs;
BEGIN
    IF (c.kind = 'user' AND c.tenant_id IS NOT NULL AND 'documents:write' = ANY (c.scopes)) IS NOT TRUE THEN
        RAISE EXCEPTION 'documents:write is missing' USING ERRCODE = '42501';
    END IF;
    SELECT j.* INTO found FROM jobs.jobs j WHERE j.tenant_id = c.tenant_id AND j.id = of_tenant.job_id FOR NO KEY UPDATE;
    RETURN found;
END $$;

-- Stop a job of the ticket's tenant: at once when it waits, between two steps when it runs. Returns its state then, NULL
-- when there is no such job; one that is over stays as it is.
CREATE FUNCTION jobs.cancel(job_id uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  jobs.jobs := jobs.of_tenant(cancel.job_id);
BEGIN
    IF own.state = 'queued' THEN
        UPDATE jobs.jobs j SET state = 'cancelled', reason_code = 'cancelled', cancel_requested_at = clock_timestamp(), done_at = clock_timestamp()
            WHERE j.seq = own.seq;
        PERFORM jobs.fail_document(own, 'cancelled');
        RETURN 'cancelled';
    END IF;
    IF own.state = 'running' AND own.cancel_requested_at IS NULL THEN
        UPDATE jobs.jobs j SET cancel_requested_at = clock_timestamp() WHERE j.seq = own.seq;
        PERFORM pg_notify('jobs_' || own.queue, '');
    END IF;
    RETURN own.state;
END $$;

-- Try a dead or cancelled job of the ticket's tenant again, as if it were new. Returns its state then, NULL when there is
-- no such job; any other job stays as it is. Raises 23503 when its document is deleted.
CREATE FUNCTION jobs.retry(job_id uuid) RETURNS text
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

------------------------------------------------------------------------------------------------- operators

CREATE OR REPLACE FUNCTION jobs.depth() RETURNS TABLE (queue text, state text, jobs bigint, oldest_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT j.queue, j.state, count(*), greatest(0, (extract(epoch FROM clock_timestamp() - min(j.created_at)) * 1000)::bigint)
        FROM jobs.jobs j WHERE j.state IN ('queued', 'running', 'dead') GROUP BY j.queue, j.state ORDER BY j.queue, j.state
$$;

-- Jobs that wait because something that they need is away, by what it is.
CREATE FUNCTION jobs.stuck() RETURNS TABLE (queue text, kind text, reason_code text, jobs bigint, oldest_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT j.queue, j.kind, j.reason_code, count(*), greatest(0, (extract(epoch FROM clock_timestamp() - min(j.outage_since)) * 1000)::bigint)
        FROM jobs.jobs j WHERE j.state = 'queued' AND j.outages > 0 GROUP BY j.queue, j.kind, j.reason_code
$$;

-- Remove up to n jobs that were over 30 days ago; dead ones stay until somebody retries them or erases their document.
CREATE FUNCTION jobs.purge(n integer) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM jobs.jobs j WHERE j.seq = ANY (ARRAY(SELECT k.seq FROM jobs.jobs k
            WHERE k.state IN ('succeeded', 'cancelled') AND k.done_at < now() - interval '30 days'
            ORDER BY k.done_at LIMIT least(greatest(n, 0), 10000) FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT count(*) FROM gone
$$;

-- Take one of the named schedules that is due, or whose run was lost with its worker. No row: nothing is due.
CREATE FUNCTION jobs.claim_schedule(names text[], worker text, lease_ms integer) RETURNS TABLE (name text, fence bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF num_nulls(claim_schedule.names, claim_schedule.worker, claim_schedule.lease_ms) <> 0 THEN
        RAISE EXCEPTION 'claim_schedule: NULL' USING ERRCODE = '22004';
    END IF;
    RETURN QUERY UPDATE jobs.schedules s SET lease_owner = left(claim_schedule.worker, 128), fence = nextval('jobs.fence'), last_started_at = clock_timestamp(),
            lease_until = clock_timestamp() + least(greatest(claim_schedule.lease_ms, 100), 3600000) * interval '1 ms'
        WHERE s.name = (SELECT d.name FROM jobs.schedules d WHERE d.name = ANY (claim_schedule.names)
            AND d.next_run_at <= clock_timestamp() AND (d.lease_until IS NULL OR d.lease_until < clock_timestamp())
            ORDER BY d.next_run_at LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING s.name, s.fence;
END $$;

-- The run is over. The next one is at the first time of its row that is still to come: what was missed is not made up
-- for. False: somebody else has taken over.
CREATE FUNCTION jobs.finish_schedule(name text, fence bigint, outcome text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE jobs.schedules s SET lease_owner = NULL, lease_until = NULL, last_finished_at = clock_timestamp(), last_outcome = finish_schedule.outcome,
            last_success_at = CASE WHEN finish_schedule.outcome = 'done' THEN clock_timestamp() ELSE s.last_success_at END,
            next_run_at = s.next_run_at + s.every * (floor(extract(epoch FROM clock_timestamp() - s.next_run_at) / extract(epoch FROM s.every)) + 1)
        WHERE s.name = finish_schedule.name AND s.fence = finish_schedule.fence AND s.lease_until IS NOT NULL AND finish_schedule.outcome IS NOT NULL;
    RETURN FOUND;
END $$;

-- How scheduled work stands. last_success_age_ms counts from the schedule's creation while there was no success.
CREATE FUNCTION jobs.schedule_states() RETURNS TABLE (name text, last_outcome text, last_success_age_ms bigint, overdue_ms bigint, is_running boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.name, s.last_outcome, (extract(epoch FROM clock_timestamp() - coalesce(s.last_success_at, s.created_at)) * 1000)::bigint,
           greatest(0, (extract(epoch FROM clock_timestamp() - s.next_run_at) * 1000)::bigint), coalesce(s.lease_until > clock_timestamp(), false)
        FROM jobs.schedules s ORDER BY s.name
$$;

GRANT EXECUTE ON FUNCTION jobs.enqueue(uuid, text, text, uuid, integer), jobs.cancel(uuid), jobs.retry(uuid) TO cordon_ingest;
GRANT EXECUTE ON FUNCTION jobs.attend(integer), jobs.claim(text, text, integer, integer, integer),
    jobs.renew(uuid, bigint, text, integer, integer), jobs.reap(text, integer), jobs.stuck(), jobs.purge(integer),
    jobs.claim_schedule(text[], text, integer), jobs.finish_schedule(text, bigint, text), jobs.schedule_states() TO cordon_jobs;

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
        PERFORM audit.record(what, NEW.tenant_id, NEW.id, ARRAY[NEW.document_id], jsonb_build_object('queue', NEW.queue, 'kind', NEW.kind)
            || CASE WHEN what = 'job.enqueue' THEN '{}'
                    WHEN what IN ('job.complete', 'job.dead') THEN jsonb_build_object('attempt', NEW.attempt, 'reason', NEW.reason_code)
                    ELSE jsonb_build_object('from', OLD.state) END);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_jobs_removed() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('job.purge', g.tenant_id, NULL, '{}', jsonb_build_object('jobs', g.jobs))
        FROM (SELECT r.tenant_id, count(*) AS jobs FROM removed r GROUP BY r.tenant_id) g;
    RETURN NULL;
END $$;
GRANT EXECUTE ON FUNCTION audit.on_jobs_removed() TO cordon_owner;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;

CREATE TRIGGER audit_removed AFTER DELETE ON jobs.jobs REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION audit.on_jobs_removed();
CREATE TRIGGER audit AFTER INSERT OR UPDATE OF name, every OR DELETE ON jobs.schedules FOR EACH ROW EXECUTE FUNCTION audit.on_policy();
ALTER TABLE jobs.jobs ENABLE ALWAYS TRIGGER audit_removed;
ALTER TABLE jobs.schedules ENABLE ALWAYS TRIGGER audit;
RESET ROLE;
