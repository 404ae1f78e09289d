-- One vector for each text: chunks say which text is theirs, by its blind token under the tenant's search key, and a text's vector
-- is there once for each model, however many chunks have it. So texts that repeat cannot fill an index's lists of neighbours and
-- hide the others (ADR 0036). A vector goes with the last chunk of its text, in the same transaction.
--
-- A vector's home is nil, the shared partition, or its tenant, as before (0028); it is in exactly one of them at any time.

SET LOCAL ROLE cordon_owner;

-- A chunk of which nobody says what it equals has a text of its own.
ALTER TABLE app.chunks ADD COLUMN text_blind bytea NOT NULL DEFAULT sha256(uuid_send(gen_random_uuid())) CHECK (octet_length(text_blind) = 32);

CREATE TABLE app.text_vectors (
    tenant_id   uuid NOT NULL,
    text_blind  bytea NOT NULL CHECK (octet_length(text_blind) = 32),
    model       text NOT NULL CHECK (length(model) BETWEEN 1 AND 200),
    home        uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
                CHECK (home IN ('00000000-0000-0000-0000-000000000000', tenant_id)),
    embedding   ext.halfvec(1024) NOT NULL,
    PRIMARY KEY (tenant_id, text_blind, model, home)
) PARTITION BY LIST (home);
ALTER TABLE app.text_vectors ALTER COLUMN embedding SET STORAGE PLAIN;       -- 0.9 us a row to scan, no detoasting
CREATE TABLE app.text_vectors_shared PARTITION OF app.text_vectors FOR VALUES IN ('00000000-0000-0000-0000-000000000000');

-- As before, and what a policy says of its own table's columns is said of the partition's.
CREATE OR REPLACE FUNCTION app.guard_partition(parent regclass, part regclass) RETURNS void
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own_name   text := (SELECT quote_ident(c.relname) || '.' FROM pg_class c WHERE c.oid = parent);
    part_name  text := (SELECT quote_ident(c.relname) || '.' FROM pg_class c WHERE c.oid = part);
    p          record;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', part);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', part);
    FOR p IN SELECT y.polname, y.polpermissive,
                    CASE y.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END AS verb,
                    (SELECT string_agg(quote_ident(r.rolname), ', ') FROM pg_roles r WHERE r.oid = ANY (y.polroles)) AS roles,
                    replace(pg_get_expr(y.polqual, y.polrelid), own_name, part_name) AS qual,
                    replace(pg_get_expr(y.polwithcheck, y.polrelid), own_name, part_name) AS checked
             FROM pg_policy y WHERE y.polrelid = parent
    LOOP
        EXECUTE format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, part,
                       CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, p.verb, coalesce(p.roles, 'PUBLIC'))
                || coalesce(' USING (' || p.qual || ')', '') || coalesce(' WITH CHECK (' || p.checked || ')', '');
    END LOOP;
END $$;

------------------------------------------------------------------------------------------------- policies and grants

ALTER TABLE app.text_vectors ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.text_vectors FORCE ROW LEVEL SECURITY;
CREATE POLICY query_reads ON app.text_vectors FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('query')));
-- The vector of a text that stands in a chunk that the ticket may see. (Written so that it is looked up, and never hashed whole.)
CREATE POLICY labels ON app.text_vectors AS RESTRICTIVE FOR SELECT TO cordon_query
    USING (NOT EXISTS (SELECT FROM authz.hidden_documents())
           OR (SELECT true FROM app.chunks k WHERE k.tenant_id = text_vectors.tenant_id AND k.text_blind = text_vectors.text_blind LIMIT 1));
-- Of a text of the job's own document; and the change of the model, for texts that keys.hold_texts() has held.
CREATE POLICY ingest_adds ON app.text_vectors FOR INSERT TO cordon_ingest
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND ((SELECT authz.may('job:reembed'))
                OR (SELECT true FROM app.chunks k WHERE k.tenant_id = text_vectors.tenant_id AND k.text_blind = text_vectors.text_blind
                    AND k.document_id = (SELECT authz.job_document()) LIMIT 1)));
CREATE POLICY definer ON app.text_vectors TO cordon_keys_definer USING (true) WITH CHECK (true);
GRANT SELECT ON app.text_vectors TO cordon_query;
GRANT INSERT ON app.text_vectors TO cordon_ingest;
GRANT SELECT, INSERT, UPDATE (home), DELETE ON app.text_vectors TO cordon_keys_definer;
SELECT app.guard_partition('app.text_vectors', 'app.text_vectors_shared');
GRANT SELECT (text_blind) ON app.chunks TO cordon_keys_definer;

------------------------------------------------------------------------------------------------- partitions

-- As in 0028, for the other table.
CREATE OR REPLACE FUNCTION app.index_vectors(p_tenant_id uuid, p_model text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' SET max_parallel_maintenance_workers = 0 AS $$
DECLARE
    name  text := 'text_vectors_' || replace(p_tenant_id::text, '-', '');
BEGIN
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON app.%I USING hnsw (embedding ext.halfvec_cosine_ops) WHERE model = %L',
                   name || '_' || left(encode(sha256(convert_to(p_model, 'UTF8')), 'hex'), 8), name, p_model);
END $$;

CREATE OR REPLACE FUNCTION app.keep_vector_index(p_tenant_id uuid, p_model text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    part  text := 'text_vectors_' || replace(p_tenant_id::text, '-', '');
    name  text;
BEGIN
    FOR name IN SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = to_regclass(format('app.%I', part)) AND a.amname = 'hnsw'
          AND c.relname <> part || '_' || left(encode(sha256(convert_to(p_model, 'UTF8')), 'hex'), 8)
    LOOP
        EXECUTE 'DROP INDEX ' || name;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION app.make_vector_partition(p_tenant_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    name  text := 'text_vectors_' || replace(p_tenant_id::text, '-', '');
BEGIN
    IF to_regclass(format('app.%I', name)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE app.%I (LIKE app.text_vectors INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', name);
    PERFORM app.guard_partition('app.text_vectors', format('app.%I', name)::regclass);
    EXECUTE format('ALTER TABLE app.text_vectors ATTACH PARTITION app.%I FOR VALUES IN (%L)', name, p_tenant_id);
END $$;

------------------------------------------------------------------------------------------------- what is there

RESET ROLE;
UPDATE app.chunks k SET text_blind = v.text_blind FROM app.chunk_vectors v
    WHERE v.tenant_id = k.tenant_id AND v.chunk_id = k.id AND v.text_blind IS NOT NULL AND v.model = (
        SELECT s.model FROM app.vector_sets s WHERE s.tenant_id = k.tenant_id);
SELECT app.make_vector_partition(s.tenant_id) FROM app.vector_sets s WHERE s.home = s.tenant_id;
INSERT INTO app.text_vectors (tenant_id, text_blind, model, home, embedding)
    SELECT DISTINCT ON (k.tenant_id, k.text_blind, v.model) k.tenant_id, k.text_blind, v.model, s.home, v.embedding
    FROM app.chunk_vectors v JOIN app.chunks k ON k.tenant_id = v.tenant_id AND k.id = v.chunk_id JOIN app.vector_sets s ON s.tenant_id = v.tenant_id
    ORDER BY k.tenant_id, k.text_blind, v.model;
SELECT app.index_vectors(s.tenant_id, s.model), app.index_vectors(s.tenant_id, coalesce(s.next_model, s.model))
    FROM app.vector_sets s WHERE s.home = s.tenant_id;
SET LOCAL ROLE cordon_owner;
CREATE INDEX chunks_text ON app.chunks (tenant_id, text_blind, document_id, id);
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;
SET LOCAL ROLE cordon_keys_definer;

------------------------------------------------------------------------------------------------- a vector goes with its last chunk

-- Whoever stores holds the vectors that he need not store (keys.hold_vectors), and whoever removes chunks locks theirs first, all in
-- one order: then what is looked up next is true. A vector that moved home in between was not locked, and is looked for again.
CREATE FUNCTION keys.vectors_follow() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nil   CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    gone  record;
    held  bigint;
BEGIN
    FOR gone IN SELECT o.tenant_id, array_agg(DISTINCT o.text_blind) AS blinds, (SELECT s.model FROM app.vector_sets s WHERE s.tenant_id = o.tenant_id) AS searched
        FROM old_chunks o GROUP BY o.tenant_id
    LOOP
        LOOP            -- joined, so that a long list is never compared with each vector
            SELECT count(*) INTO held FROM (SELECT FROM unnest(gone.blinds) b (blind) JOIN app.text_vectors v ON v.text_blind = b.blind
                WHERE v.tenant_id = gone.tenant_id AND v.home IN (nil, gone.tenant_id)
                ORDER BY v.model <> gone.searched, v.model COLLATE "C", v.text_blind FOR UPDATE OF v) x;
            EXIT WHEN held = (SELECT count(*) FROM unnest(gone.blinds) b (blind) JOIN app.text_vectors v ON v.text_blind = b.blind
                              WHERE v.tenant_id = gone.tenant_id AND v.home IN (nil, gone.tenant_id));
        END LOOP;
        DELETE FROM app.text_vectors v USING unnest(gone.blinds) b (blind)
            WHERE v.tenant_id = gone.tenant_id AND v.home IN (nil, gone.tenant_id) AND v.text_blind = b.blind
            AND NOT EXISTS (SELECT FROM app.chunks k WHERE k.tenant_id = gone.tenant_id AND k.text_blind = b.blind);
    END LOOP;
    RETURN NULL;
END $$;
GRANT EXECUTE ON FUNCTION keys.vectors_follow() TO cordon_owner;

------------------------------------------------------------------------------------------------- storing

-- The ticket's tenant, for one who embeds.
CREATE FUNCTION keys.embedding_home() RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims := authz.current_claims();
BEGIN
    IF (c.kind = 'job' AND c.tenant_id IS NOT NULL AND c.scopes && ARRAY['job:ingest', 'job:reembed']) IS NOT TRUE THEN
        RAISE EXCEPTION 'not a job that embeds' USING ERRCODE = '42501';
    END IF;
    RETURN c.tenant_id;
END $$;

CREATE OR REPLACE FUNCTION keys.known_vectors(p_model text, p_blinds bytea[]) RETURNS TABLE (text_blind bytea, embedding ext.halfvec)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own  uuid := keys.embedding_home();
BEGIN
    RETURN QUERY SELECT b.blind, k.embedding FROM (SELECT DISTINCT u AS blind FROM unnest(p_blinds) u) b
        CROSS JOIN LATERAL (SELECT v.embedding FROM app.text_vectors v WHERE v.tenant_id = own AND v.model = p_model
            AND v.text_blind = b.blind AND v.home IN ('00000000-0000-0000-0000-000000000000', own) LIMIT 1) k;
END $$;

-- Of these texts, those that have a vector: it stays until the transaction is over. The others are to be stored, in the order of
-- their tokens; whoever finds one there then asks again.
CREATE FUNCTION keys.hold_vectors(p_model text, p_blinds bytea[]) RETURNS SETOF bytea
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  uuid := keys.embedding_home();
BEGIN
    RETURN QUERY SELECT v.text_blind FROM app.text_vectors v
        WHERE v.tenant_id = own AND v.model = p_model AND v.text_blind = ANY (p_blinds) AND v.home IN ('00000000-0000-0000-0000-000000000000', own)
        ORDER BY v.text_blind FOR KEY SHARE;
END $$;

------------------------------------------------------------------------------------------------- a partition of its own

-- Tenants with more than p_threshold vectors in the shared partition get a job that moves them, and so do those who have a
-- partition and something left. How many. A lookup in an index for each tenant, and never more than p_threshold entries.
CREATE OR REPLACE FUNCTION keys.promote_due(p_threshold integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nil   CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    own   app.vector_sets;
    made  integer := 0;
BEGIN
    FOR own IN SELECT s.* FROM app.vector_sets s LOOP
        PERFORM FROM app.text_vectors v WHERE v.tenant_id = own.tenant_id AND v.home = nil
            OFFSET CASE WHEN own.home = nil THEN greatest(p_threshold, 1) ELSE 0 END LIMIT 1;
        CONTINUE WHEN NOT FOUND;
        made := made + coalesce((SELECT jobs.enqueue_promotion(own.tenant_id, d.created_by)::integer FROM app.documents d
                                 WHERE d.tenant_id = own.tenant_id ORDER BY d.id DESC LIMIT 1), 0);
    END LOOP;
    RETURN made;
END $$;

-- Move up to p_n vectors home; how many went. One that somebody holds is passed by. (A row that changes its partition by UPDATE is
-- an error to those who wait for it; one that is gone is not.)
CREATE OR REPLACE FUNCTION keys.promote_step(p_n integer, OUT moved integer, OUT is_over boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nil  CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    own  uuid := keys.job_home('promote');
BEGIN
    WITH next AS (SELECT v.text_blind, v.model FROM app.text_vectors v WHERE v.tenant_id = own AND v.home = nil
                  ORDER BY v.text_blind, v.model LIMIT p_n FOR UPDATE SKIP LOCKED),
         went AS (DELETE FROM app.text_vectors v USING next s WHERE v.tenant_id = own AND v.home = nil AND v.text_blind = s.text_blind AND v.model = s.model
                  RETURNING v.text_blind, v.model, v.embedding)
    INSERT INTO app.text_vectors (tenant_id, text_blind, model, home, embedding) SELECT own, w.text_blind, w.model, own, w.embedding FROM went w;
    GET DIAGNOSTICS moved = ROW_COUNT;
    is_over := NOT EXISTS (SELECT FROM app.text_vectors v WHERE v.tenant_id = own AND v.home = nil);
END $$;

-- How much there is to do, and how much of it is done.
CREATE OR REPLACE FUNCTION keys.promote_progress(OUT done bigint, OUT total bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FILTER (WHERE v.home = v.tenant_id), count(*) FROM app.text_vectors v
        WHERE v.tenant_id = keys.job_home('promote') AND v.home IN ('00000000-0000-0000-0000-000000000000', v.tenant_id)
$$;

------------------------------------------------------------------------------------------------- another model

-- Texts that have a vector of the model to come (of the one that is searched, when there is none), and texts in all.
CREATE OR REPLACE FUNCTION keys.reembed_progress(OUT done bigint, OUT total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.vector_sets;
BEGIN
    SELECT s.* INTO STRICT own FROM app.vector_sets s WHERE s.tenant_id = keys.job_home('reembed');
    SELECT count(*) FILTER (WHERE v.model = coalesce(own.next_model, own.model)), count(*) FILTER (WHERE v.model = own.model) INTO done, total
        FROM app.text_vectors v WHERE v.tenant_id = own.tenant_id AND v.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id);
END $$;

DROP FUNCTION keys.reembed_next(uuid, integer, integer);
-- The next p_n chunks behind that place whose texts have no vector of the next model.
CREATE FUNCTION keys.reembed_next(p_document_id uuid, p_ordinal integer, p_n integer) RETURNS TABLE (document_id uuid, chunk_id uuid, ordinal integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    own  app.vector_sets;
BEGIN
    SELECT s.* INTO STRICT own FROM app.vector_sets s WHERE s.tenant_id = keys.job_home('reembed');
    RETURN QUERY SELECT k.document_id, k.id, k.ordinal FROM app.chunks k
        WHERE k.tenant_id = own.tenant_id AND (k.document_id, k.ordinal) > (p_document_id, p_ordinal)
          AND NOT EXISTS (SELECT FROM app.text_vectors v WHERE v.tenant_id = own.tenant_id AND v.text_blind = k.text_blind AND v.model = own.next_model
                          AND v.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id))
        ORDER BY k.document_id, k.ordinal LIMIT least(greatest(p_n, 0), 64);
END $$;

DROP FUNCTION keys.open_reembedding(uuid, uuid[]);
-- Keys and sealed texts of those chunks of documents that the event names: one of this very job's ticket, on record, as
-- keys.open() wants it.
CREATE FUNCTION keys.open_reembedding(p_event_id uuid, p_chunk_ids uuid[])
RETURNS TABLE (document_id uuid, chunk_id uuid, version integer, wrapped bytea, name_enc bytea, text_enc bytea, text_blind bytea)
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
    RETURN QUERY SELECT k.document_id, k.id, y.version, y.wrapped, d.name_enc, k.text_enc, k.text_blind
        FROM app.chunks k JOIN app.documents d ON d.tenant_id = k.tenant_id AND d.id = k.document_id AND d.status IN ('processing', 'ready')
        CROSS JOIN LATERAL (SELECT x.version, x.wrapped FROM keys.document_keys x WHERE x.tenant_id = own AND x.document_id = k.document_id
                            ORDER BY x.version DESC LIMIT 1) y
        WHERE k.tenant_id = own AND k.id = ANY (p_chunk_ids) AND k.document_id = ANY (named)
        ORDER BY k.document_id, k.ordinal;
END $$;

-- Of these chunks, those that are there: they stay until the transaction is over. (Whoever ends a document changes its row first.)
CREATE FUNCTION keys.hold_texts(p_chunk_ids uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  uuid := keys.job_home('reembed');
BEGIN
    PERFORM FROM app.documents d WHERE d.tenant_id = own AND d.id IN (SELECT k.document_id FROM app.chunks k WHERE k.tenant_id = own AND k.id = ANY (p_chunk_ids))
        ORDER BY d.id FOR SHARE;
    RETURN QUERY SELECT k.id FROM app.chunks k WHERE k.tenant_id = own AND k.id = ANY (p_chunk_ids);
END $$;

CREATE OR REPLACE FUNCTION keys.reembed_switch() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.vector_sets;
BEGIN
    SELECT s.* INTO STRICT own FROM app.vector_sets s WHERE s.tenant_id = keys.job_home('reembed') AND s.next_model IS NOT NULL FOR UPDATE;
    IF EXISTS (SELECT FROM app.chunks k JOIN app.documents d ON d.tenant_id = k.tenant_id AND d.id = k.document_id AND d.status IN ('processing', 'ready')
               WHERE k.tenant_id = own.tenant_id AND NOT EXISTS (SELECT FROM app.text_vectors v WHERE v.tenant_id = own.tenant_id
                   AND v.text_blind = k.text_blind AND v.model = own.next_model AND v.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id))) THEN
        RETURN false;
    END IF;
    UPDATE app.vector_sets s SET model = own.next_model, next_model = NULL WHERE s.tenant_id = own.tenant_id;
    RETURN true;
END $$;

DROP FUNCTION keys.reembed_clean(integer);
-- Remove up to p_n vectors of models that the tenant is not searched by any more. False: some are left. True: their indexes went,
-- and the job is over.
CREATE FUNCTION keys.reembed_clean(p_n integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.vector_sets;
BEGIN
    SELECT s.* INTO STRICT own FROM app.vector_sets s WHERE s.tenant_id = keys.job_home('reembed') AND s.next_model IS NULL FOR UPDATE;
    DELETE FROM app.text_vectors v WHERE v.tenant_id = own.tenant_id AND v.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id)
        AND (v.text_blind, v.model, v.home) IN (SELECT w.text_blind, w.model, w.home FROM app.text_vectors w WHERE w.tenant_id = own.tenant_id
            AND w.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id) AND w.model <> own.model ORDER BY w.model, w.text_blind LIMIT p_n);
    IF EXISTS (SELECT FROM app.text_vectors v WHERE v.tenant_id = own.tenant_id AND v.model <> own.model
               AND v.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id)) THEN
        RETURN false;
    END IF;
    PERFORM app.keep_vector_index(own.tenant_id, own.model);
    PERFORM jobs.complete();
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION keys.hold_vectors(text, bytea[]), keys.hold_texts(uuid[]), keys.reembed_next(uuid, integer, integer), keys.open_reembedding(uuid, uuid[]),
    keys.reembed_clean(integer) TO cordon_ingest;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
DROP TABLE app.chunk_vectors;
CREATE TRIGGER vectors_follow AFTER DELETE ON app.chunks REFERENCING OLD TABLE AS old_chunks FOR EACH STATEMENT EXECUTE FUNCTION keys.vectors_follow();
ALTER TABLE app.chunks ENABLE ALWAYS TRIGGER vectors_follow;
RESET ROLE;
