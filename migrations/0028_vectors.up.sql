-- Vectors: a partition with an index for each big tenant, filled row by row while everybody searches and writes; the change of
-- the model, searched on the old vectors until the new ones are all there; and identical texts embedded once (ADRs 0003, 0027).
--
-- A vector's home is nil, the shared partition, or its tenant. A tenant's rows move home a few at a time: each is in exactly one
-- place at any time, and searches look in both. Nothing else changes a row.

SET LOCAL ROLE cordon_owner;

INSERT INTO auth.scopes (name, realm, needs_step_up) VALUES ('vectors:manage', 'tenant', false);
INSERT INTO auth.role_scopes (role, scope) VALUES ('admin', 'vectors:manage');

DROP FUNCTION app.add_vector_partition(uuid);
ALTER TABLE app.chunk_vectors RENAME TO chunk_vectors_0003;
ALTER TABLE app.chunk_vectors_default RENAME TO chunk_vectors_0003_default;
ALTER INDEX app.chunk_vectors_pkey RENAME TO chunk_vectors_0003_pkey;
ALTER INDEX app.chunk_vectors_document RENAME TO chunk_vectors_0003_document;

CREATE TABLE app.chunk_vectors (
    tenant_id    uuid NOT NULL,
    chunk_id     uuid NOT NULL,
    document_id  uuid NOT NULL,
    model        text NOT NULL CHECK (length(model) BETWEEN 1 AND 200),
    embedding    ext.halfvec(1024) NOT NULL,
    text_blind   bytea CHECK (octet_length(text_blind) = 32),       -- of what was embedded, under the tenant's search key
    home         uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
                 CHECK (home IN ('00000000-0000-0000-0000-000000000000', tenant_id)),
    PRIMARY KEY (tenant_id, chunk_id, model, home),
    -- the three columns, so that a vector cannot name one document and the chunk of another
    FOREIGN KEY (tenant_id, document_id, chunk_id) REFERENCES app.chunks (tenant_id, document_id, id) ON DELETE CASCADE
) PARTITION BY LIST (home);
ALTER TABLE app.chunk_vectors ALTER COLUMN embedding SET STORAGE PLAIN;      -- 0.9 us a row to scan, no detoasting
CREATE TABLE app.chunk_vectors_shared PARTITION OF app.chunk_vectors FOR VALUES IN ('00000000-0000-0000-0000-000000000000');
CREATE INDEX chunk_vectors_document ON app.chunk_vectors (tenant_id, document_id);
CREATE INDEX chunk_vectors_text ON app.chunk_vectors (tenant_id, model, text_blind);

-- Which vectors a tenant's searches go by. Its row is there with its first vector.
CREATE TABLE app.vector_sets (
    tenant_id   uuid PRIMARY KEY REFERENCES auth.tenants,
    model       text NOT NULL CHECK (length(model) BETWEEN 1 AND 200),         -- searched
    next_model  text CHECK (length(next_model) BETWEEN 1 AND 200 AND next_model <> model),      -- being made, beside it
    job_id      uuid,                                                          -- that makes, or made, the next
    home        uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
                CHECK (home IN ('00000000-0000-0000-0000-000000000000', tenant_id)),
    changed_at  timestamptz NOT NULL DEFAULT now()
);
RESET ROLE;
INSERT INTO jobs.schedules (name, every, next_run_at) VALUES ('promote', '5 min', now());
INSERT INTO app.chunk_vectors (tenant_id, chunk_id, document_id, model, embedding)
    SELECT v.tenant_id, v.chunk_id, v.document_id, v.model, v.embedding FROM app.chunk_vectors_0003 v;
INSERT INTO app.vector_sets (tenant_id, model)
    SELECT DISTINCT ON (v.tenant_id) v.tenant_id, v.model FROM app.chunk_vectors_0003 v GROUP BY 1, 2 ORDER BY 1, count(*) DESC;
SET LOCAL ROLE cordon_owner;
DROP TABLE app.chunk_vectors_0003;

CREATE FUNCTION app.check_vector_set() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.tenant_id <> OLD.tenant_id OR (NEW.model <> OLD.model AND (NEW.model = OLD.next_model AND NEW.next_model IS NULL) IS NOT TRUE)
       OR (NEW.home <> OLD.home AND NEW.home <> NEW.tenant_id) THEN
        RAISE EXCEPTION 'vectors: no such move' USING ERRCODE = '23514';
    END IF;
    NEW.changed_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER check_move BEFORE UPDATE ON app.vector_sets FOR EACH ROW EXECUTE FUNCTION app.check_vector_set();
ALTER TABLE app.vector_sets ENABLE ALWAYS TRIGGER check_move;

------------------------------------------------------------------------------------------------- policies and grants

ALTER TABLE app.vector_sets ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.vector_sets FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON app.vector_sets TO cordon_keys_definer USING (true) WITH CHECK (true);
CREATE POLICY query_reads ON app.vector_sets FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND ((SELECT authz.may('query')) OR (SELECT authz.may('vectors:manage'))));
CREATE POLICY ingest_reads ON app.vector_sets FOR SELECT TO cordon_ingest USING (tenant_id = (SELECT authz.tenant()));
GRANT SELECT, INSERT, UPDATE ON app.vector_sets TO cordon_keys_definer;
GRANT SELECT ON app.vector_sets TO cordon_query, cordon_ingest;

ALTER TABLE app.chunk_vectors ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.chunk_vectors FORCE ROW LEVEL SECURITY;
CREATE POLICY query_reads ON app.chunk_vectors FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('query')));
CREATE POLICY labels ON app.chunk_vectors AS RESTRICTIVE FOR SELECT TO cordon_query
    USING (document_id NOT IN (SELECT authz.hidden_documents()));
CREATE POLICY ingest_reads ON app.chunk_vectors FOR SELECT TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant())
           AND ((SELECT authz.may('documents:write')) OR document_id = (SELECT authz.job_document())));
-- A document's own job; and the change of the model, for chunks that are there.
CREATE POLICY ingest_adds ON app.chunk_vectors FOR INSERT TO cordon_ingest
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND (document_id = (SELECT authz.job_document()) OR (SELECT authz.may('job:reembed'))));
CREATE POLICY ingest_removes ON app.chunk_vectors FOR DELETE TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant()) AND document_id = (SELECT authz.job_document()));
CREATE POLICY definer ON app.chunk_vectors TO cordon_keys_definer USING (true) WITH CHECK (true);
GRANT SELECT ON app.chunk_vectors TO cordon_query;
GRANT SELECT, INSERT, DELETE ON app.chunk_vectors TO cordon_ingest;
GRANT SELECT, UPDATE (home), DELETE ON app.chunk_vectors TO cordon_keys_definer;
SELECT app.guard_partition('app.chunk_vectors', 'app.chunk_vectors_shared');

GRANT SELECT (id, ordinal, text_enc) ON app.chunks TO cordon_keys_definer;
GRANT SELECT (name_enc) ON app.documents TO cordon_keys_definer;

------------------------------------------------------------------------------------------------- partitions

-- Only the tables' owner can make partitions and indexes; these do that and nothing else, for functions of
-- cordon_keys_definer, which say for whom. Whoever waits for such a lock stops all who come after him, so the wait is short.

-- The index that a tenant's searches go by, on its own partition, for one model: vectors of two models have no distance.
-- It is made while no such vector is there, so there is nothing to build (and CVE-2026-3172 is about parallel builds).
CREATE FUNCTION app.index_vectors(p_tenant_id uuid, p_model text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' SET max_parallel_maintenance_workers = 0 AS $$
DECLARE
    name  text := 'chunk_vectors_' || replace(p_tenant_id::text, '-', '');
BEGIN
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON app.%I USING hnsw (embedding ext.halfvec_cosine_ops) WHERE model = %L',
                   name || '_' || left(encode(sha256(convert_to(p_model, 'UTF8')), 'hex'), 8), name, p_model);
END $$;

-- The others go, once no vector is in them.
CREATE FUNCTION app.keep_vector_index(p_tenant_id uuid, p_model text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    part  text := 'chunk_vectors_' || replace(p_tenant_id::text, '-', '');
    name  text;
BEGIN
    FOR name IN SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = to_regclass(format('app.%I', part)) AND a.amname = 'hnsw'
          AND c.relname <> part || '_' || left(encode(sha256(convert_to(p_model, 'UTF8')), 'hex'), 8)
    LOOP
        EXECUTE 'DROP INDEX ' || name;
    END LOOP;
END $$;

-- A tenant's own partition. It is guarded before anybody can reach it, and attached empty: CREATE ... PARTITION OF would stop
-- every search for as long as it waits. (Its foreign key stops writers of chunks for a moment.)
CREATE FUNCTION app.make_vector_partition(p_tenant_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    name  text := 'chunk_vectors_' || replace(p_tenant_id::text, '-', '');
BEGIN
    IF to_regclass(format('app.%I', name)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE app.%I (LIKE app.chunk_vectors INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', name);
    PERFORM app.guard_partition('app.chunk_vectors', format('app.%I', name)::regclass);
    EXECUTE format('ALTER TABLE app.chunk_vectors ATTACH PARTITION app.%I FOR VALUES IN (%L)', name, p_tenant_id);
END $$;
GRANT EXECUTE ON FUNCTION app.index_vectors(uuid, text), app.keep_vector_index(uuid, text), app.make_vector_partition(uuid) TO cordon_keys_definer;

------------------------------------------------------------------------------------------------- jobs

GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
RESET ROLE;
SET LOCAL ROLE cordon_jobs_definer;

-- Work that nobody asks for, in the name of p_user_id, for functions of cordon_keys_definer. False: it is under way already.
CREATE FUNCTION jobs.enqueue_promotion(p_tenant_id uuid, p_user_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM jobs.jobs j WHERE j.tenant_id = p_tenant_id AND j.kind = 'promote' AND j.state IN ('queued', 'running')) THEN
        RETURN false;
    END IF;
    INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id, priority, max_attempts)
        VALUES (p_tenant_id, authz.uuid_v7(), 'ingest', 'promote', '00000000-0000-0000-0000-000000000000', p_user_id, 60, 100);
    PERFORM pg_notify('jobs_ingest', '');
    RETURN true;
END $$;

-- As the one without: and not before that time, which whoever was asked has named.
CREATE FUNCTION jobs.postpone(reason_code text, not_before_ms integer) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own      bigint := jobs.own_job();
    becomes  text := jobs.postpone(postpone.reason_code);
BEGIN
    IF becomes = 'queued' AND postpone.not_before_ms > 0 THEN
        UPDATE jobs.jobs j SET run_after = greatest(j.run_after, clock_timestamp() + least(postpone.not_before_ms, 3600000) * interval '1 ms') WHERE j.seq = own;
    END IF;
    RETURN becomes;
END $$;
GRANT EXECUTE ON FUNCTION jobs.enqueue_promotion(uuid, uuid) TO cordon_keys_definer;
GRANT EXECUTE ON FUNCTION jobs.postpone(text, integer) TO cordon_ingest;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA jobs FROM cordon_jobs_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;
SET LOCAL ROLE cordon_keys_definer;

------------------------------------------------------------------------------------------------- a partition of its own

-- Tenants with more than p_threshold vectors in the shared partition get a job that moves them, and so do those who have a
-- partition and something left. How many. A lookup in an index for each tenant, and never more than p_threshold entries.
CREATE FUNCTION keys.promote_due(p_threshold integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nil   CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    own   app.vector_sets;
    made  integer := 0;
BEGIN
    FOR own IN SELECT s.* FROM app.vector_sets s LOOP
        PERFORM FROM app.chunk_vectors v WHERE v.tenant_id = own.tenant_id AND v.home = nil
            OFFSET CASE WHEN own.home = nil THEN greatest(p_threshold, 1) ELSE 0 END LIMIT 1;
        CONTINUE WHEN NOT FOUND;
        -- Thousands of equal vectors fill each other's lists of neighbours, and the index finds little else: compare all.
        CONTINUE WHEN own.home = nil AND (SELECT count(*) > 2 * count(DISTINCT coalesce(v.text_blind, uuid_send(v.chunk_id)))
                                          FROM app.chunk_vectors v WHERE v.tenant_id = own.tenant_id AND v.home = nil);
        made := made + coalesce((SELECT jobs.enqueue_promotion(own.tenant_id, d.created_by)::integer FROM app.documents d
                                 WHERE d.tenant_id = own.tenant_id ORDER BY d.id DESC LIMIT 1), 0);
    END LOOP;
    RETURN made;
END $$;

-- The tenant of the ticket's job, which must be of that kind and about no document.
CREATE FUNCTION keys.job_home(p_kind text) RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims := authz.current_claims();
BEGIN
    IF (c.kind = 'job' AND 'job:' || p_kind = ANY (c.scopes) AND c.document_id = '00000000-0000-0000-0000-000000000000') IS NOT TRUE THEN
        RAISE EXCEPTION 'not such a job' USING ERRCODE = '42501';
    END IF;
    RETURN c.tenant_id;
END $$;

-- The partition with its indexes, and from now on what is new goes there. Repeating it changes nothing.
CREATE FUNCTION keys.promote_begin() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.vector_sets;
BEGIN
    SELECT s.* INTO STRICT own FROM app.vector_sets s WHERE s.tenant_id = keys.job_home('promote') FOR UPDATE;
    IF own.home <> own.tenant_id THEN
        PERFORM app.make_vector_partition(own.tenant_id);
        PERFORM app.index_vectors(own.tenant_id, own.model);
        IF own.next_model IS NOT NULL THEN
            PERFORM app.index_vectors(own.tenant_id, own.next_model);
        END IF;
        UPDATE app.vector_sets s SET home = own.tenant_id WHERE s.tenant_id = own.tenant_id;
    END IF;
END $$;

-- Move up to p_n vectors home; how many went. Whoever ends a document locks its row first: such documents are passed by, and
-- one whose vectors move here is waited for.
CREATE FUNCTION keys.promote_step(p_n integer, OUT moved integer, OUT is_over boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nil    CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    own    uuid := keys.job_home('promote');
    named  uuid[];
BEGIN
    named := ARRAY(SELECT DISTINCT x.document_id FROM (SELECT v.document_id FROM app.chunk_vectors v WHERE v.tenant_id = own AND v.home = nil
                   ORDER BY v.document_id LIMIT p_n) x);
    named := ARRAY(SELECT d.id FROM app.documents d WHERE d.tenant_id = own AND d.id = ANY (named) ORDER BY d.id FOR SHARE SKIP LOCKED);
    UPDATE app.chunk_vectors v SET home = own WHERE v.tenant_id = own AND v.home = nil AND (v.chunk_id, v.model) IN (
        SELECT w.chunk_id, w.model FROM app.chunk_vectors w WHERE w.tenant_id = own AND w.home = nil AND w.document_id = ANY (named) LIMIT p_n);
    GET DIAGNOSTICS moved = ROW_COUNT;
    is_over := NOT EXISTS (SELECT FROM app.chunk_vectors v WHERE v.tenant_id = own AND v.home = nil);
END $$;

-- How much there is to do, and how much of it is done.
CREATE FUNCTION keys.promote_progress(OUT done bigint, OUT total bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FILTER (WHERE v.home = v.tenant_id), count(*) FROM app.chunk_vectors v
        WHERE v.tenant_id = keys.job_home('promote') AND v.home IN ('00000000-0000-0000-0000-000000000000', v.tenant_id)
$$;

------------------------------------------------------------------------------------------------- storing

-- For a transaction that stores vectors of p_model: which ones the tenant wants, and where. They stay so until it is over. The
-- first vector of a tenant says which model it is searched by.
CREATE FUNCTION keys.hold_vector_set(p_model text) RETURNS TABLE (model text, next_model text, home uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    c  authz.claims := authz.current_claims();
BEGIN
    IF (c.kind = 'job' AND c.tenant_id IS NOT NULL AND c.scopes && ARRAY['job:ingest', 'job:reembed']) IS NOT TRUE THEN
        RAISE EXCEPTION 'not a job that embeds' USING ERRCODE = '42501';
    END IF;
    IF NOT EXISTS (SELECT FROM app.vector_sets s WHERE s.tenant_id = c.tenant_id) THEN
        INSERT INTO app.vector_sets (tenant_id, model) VALUES (c.tenant_id, p_model) ON CONFLICT DO NOTHING;
    END IF;
    RETURN QUERY SELECT s.model, s.next_model, s.home FROM app.vector_sets s WHERE s.tenant_id = c.tenant_id FOR SHARE;
END $$;

-- Vectors of the ticket's tenant whose text has one of these blind tokens: whoever knows the token knows the text.
CREATE FUNCTION keys.known_vectors(p_model text, p_blinds bytea[]) RETURNS TABLE (text_blind bytea, embedding ext.halfvec)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    c  authz.claims := authz.current_claims();
BEGIN
    IF (c.kind = 'job' AND c.tenant_id IS NOT NULL AND c.scopes && ARRAY['job:ingest', 'job:reembed']) IS NOT TRUE THEN
        RAISE EXCEPTION 'not a job that embeds' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT b.blind, k.embedding FROM (SELECT DISTINCT u AS blind FROM unnest(p_blinds) u) b
        CROSS JOIN LATERAL (SELECT v.embedding FROM app.chunk_vectors v WHERE v.tenant_id = c.tenant_id AND v.model = p_model
            AND v.text_blind = b.blind AND v.home IN ('00000000-0000-0000-0000-000000000000', c.tenant_id) LIMIT 1) k;
END $$;

------------------------------------------------------------------------------------------------- another model

-- The ticket's tenant is to be searched by p_model; a job makes the vectors. 23505: one is under way; 23514: it is already, or
-- has no vectors.
CREATE FUNCTION keys.begin_reembedding(p_job_id uuid, p_model text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.vector_sets;
BEGIN
    SELECT s.* INTO own FROM app.vector_sets s WHERE s.tenant_id = keys.home_for('vectors:manage') FOR UPDATE;
    IF (own.model <> p_model) IS NOT TRUE THEN
        RAISE EXCEPTION 'nothing to embed anew' USING ERRCODE = '23514';
    END IF;
    IF jobs.enqueue_tenant(p_job_id, 'reembed', true) IS NOT TRUE THEN
        RAISE EXCEPTION 'a re-embedding is under way' USING ERRCODE = '23505';
    END IF;
    UPDATE app.vector_sets s SET next_model = p_model, job_id = p_job_id WHERE s.tenant_id = own.tenant_id;
    RETURN own.model;
END $$;

-- What the job is to make; NULL: the tenant is searched by it already, and what is left is to remove the rest.
CREATE FUNCTION keys.reembed_begin() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.vector_sets;
BEGIN
    SELECT s.* INTO STRICT own FROM app.vector_sets s WHERE s.tenant_id = keys.job_home('reembed') FOR UPDATE;
    IF own.next_model IS NOT NULL AND own.home = own.tenant_id THEN
        PERFORM app.index_vectors(own.tenant_id, own.next_model);
    END IF;
    RETURN own.next_model;
END $$;

CREATE FUNCTION keys.reembed_progress(OUT done bigint, OUT total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.vector_sets;
BEGIN
    SELECT s.* INTO STRICT own FROM app.vector_sets s WHERE s.tenant_id = keys.job_home('reembed');
    SELECT count(*) INTO done FROM app.chunk_vectors v WHERE v.tenant_id = own.tenant_id AND v.model = coalesce(own.next_model, own.model)
        AND v.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id);
    SELECT count(*) INTO total FROM app.chunks k WHERE k.tenant_id = own.tenant_id;
END $$;

-- The documents of the next p_n chunks behind that place that have no vector of the next model.
CREATE FUNCTION keys.reembed_next(p_document_id uuid, p_ordinal integer, p_n integer) RETURNS TABLE (document_id uuid, chunk_id uuid, ordinal integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own  app.vector_sets;
BEGIN
    SELECT s.* INTO STRICT own FROM app.vector_sets s WHERE s.tenant_id = keys.job_home('reembed');
    RETURN QUERY SELECT k.document_id, k.id, k.ordinal FROM app.chunks k
        WHERE k.tenant_id = own.tenant_id AND (k.document_id, k.ordinal) > (p_document_id, p_ordinal)
          AND NOT EXISTS (SELECT FROM app.chunk_vectors v WHERE v.tenant_id = own.tenant_id AND v.chunk_id = k.id AND v.model = own.next_model
                          AND v.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id))
        ORDER BY k.document_id, k.ordinal LIMIT least(greatest(p_n, 0), 64);
END $$;

-- Keys and sealed texts of those chunks of documents that the event names: one of this very job's ticket, on record, as
-- keys.open() wants it.
CREATE FUNCTION keys.open_reembedding(p_event_id uuid, p_chunk_ids uuid[])
RETURNS TABLE (document_id uuid, chunk_id uuid, version integer, wrapped bytea, name_enc bytea, text_enc bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own    uuid := keys.job_home('reembed');
    named  uuid[];
BEGIN
    SELECT l.document_ids INTO named FROM audit.audit_logs l
        WHERE l.event_id = p_event_id AND l.tenant_id = own AND l.kind = 'disclosure' AND l.outcome = 'success' AND l.action = 'model.disclose'
          AND l.ticket_digest = sha256(convert_to(current_setting('authz.ticket'), 'UTF8'))
          AND l.recorded_at > clock_timestamp() - interval '5 min';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'keys.open_reembedding: no disclosure on record' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT k.document_id, k.id, y.version, y.wrapped, d.name_enc, k.text_enc
        FROM app.chunks k JOIN app.documents d ON d.tenant_id = k.tenant_id AND d.id = k.document_id AND d.status IN ('processing', 'ready')
        CROSS JOIN LATERAL (SELECT x.version, x.wrapped FROM keys.document_keys x WHERE x.tenant_id = own AND x.document_id = k.document_id
                            ORDER BY x.version DESC LIMIT 1) y
        WHERE k.tenant_id = own AND k.id = ANY (p_chunk_ids) AND k.document_id = ANY (named)
        ORDER BY k.document_id, k.ordinal;
END $$;

-- From now on the tenant is searched by the next model, if no chunk lacks its vector: whoever stores waits, and then stores
-- for that one. False: some are missing.
CREATE FUNCTION keys.reembed_switch() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.vector_sets;
BEGIN
    SELECT s.* INTO STRICT own FROM app.vector_sets s WHERE s.tenant_id = keys.job_home('reembed') AND s.next_model IS NOT NULL FOR UPDATE;
    IF EXISTS (SELECT FROM app.chunks k JOIN app.documents d ON d.tenant_id = k.tenant_id AND d.id = k.document_id AND d.status IN ('processing', 'ready')
               WHERE k.tenant_id = own.tenant_id AND NOT EXISTS (SELECT FROM app.chunk_vectors v WHERE v.tenant_id = own.tenant_id AND v.chunk_id = k.id
                   AND v.model = own.next_model AND v.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id))) THEN
        RETURN false;
    END IF;
    UPDATE app.vector_sets s SET model = own.next_model, next_model = NULL WHERE s.tenant_id = own.tenant_id;
    RETURN true;
END $$;

-- Remove up to p_n vectors of models that the tenant is not searched by any more; how many went. None: their indexes went, and
-- the job is over.
CREATE FUNCTION keys.reembed_clean(p_n integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own   app.vector_sets;
    gone  integer;
BEGIN
    SELECT s.* INTO STRICT own FROM app.vector_sets s WHERE s.tenant_id = keys.job_home('reembed') AND s.next_model IS NULL FOR UPDATE;
    DELETE FROM app.chunk_vectors v WHERE v.tenant_id = own.tenant_id AND v.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id)
        AND (v.chunk_id, v.model, v.home) IN (SELECT w.chunk_id, w.model, w.home FROM app.chunk_vectors w WHERE w.tenant_id = own.tenant_id
            AND w.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id) AND w.model <> own.model LIMIT p_n);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone = 0 THEN
        PERFORM app.keep_vector_index(own.tenant_id, own.model);
        PERFORM jobs.complete();
    END IF;
    RETURN gone;
END $$;

GRANT EXECUTE ON FUNCTION keys.promote_due(integer) TO cordon_jobs;
GRANT EXECUTE ON FUNCTION keys.promote_begin(), keys.promote_step(integer), keys.promote_progress(), keys.hold_vector_set(text),
    keys.known_vectors(text, bytea[]), keys.begin_reembedding(uuid, text), keys.reembed_begin(), keys.reembed_progress(),
    keys.reembed_next(uuid, integer, integer), keys.open_reembedding(uuid, uuid[]), keys.reembed_switch(), keys.reembed_clean(integer) TO cordon_ingest;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON app.vector_sets FOR EACH ROW
    EXECUTE FUNCTION audit.on_access('vectors', 'model,next_model,home', 'tenant_id');
ALTER TABLE app.vector_sets ENABLE ALWAYS TRIGGER audit;
RESET ROLE;
