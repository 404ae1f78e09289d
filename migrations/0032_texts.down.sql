-- Each chunk has its own copy of its text's vector again, and all of them are in the shared partition: the job moves big tenants home.
SET LOCAL ROLE cordon_owner;
DROP TRIGGER vectors_follow ON app.chunks;
CREATE OR REPLACE FUNCTION app.guard_partition(parent regclass, part regclass) RETURNS void
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p  record;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', part);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', part);
    FOR p IN SELECT y.polname, y.polpermissive,
                    CASE y.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END AS verb,
                    (SELECT string_agg(quote_ident(r.rolname), ', ') FROM pg_roles r WHERE r.oid = ANY (y.polroles)) AS roles,
                    pg_get_expr(y.polqual, y.polrelid) AS qual, pg_get_expr(y.polwithcheck, y.polrelid) AS checked
             FROM pg_policy y WHERE y.polrelid = parent
    LOOP
        EXECUTE format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, part,
                       CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, p.verb, coalesce(p.roles, 'PUBLIC'))
                || coalesce(' USING (' || p.qual || ')', '') || coalesce(' WITH CHECK (' || p.checked || ')', '');
    END LOOP;
END $$;
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

RESET ROLE;
INSERT INTO app.chunk_vectors (tenant_id, chunk_id, document_id, model, embedding, text_blind)
    SELECT k.tenant_id, k.id, k.document_id, v.model, v.embedding, k.text_blind
    FROM app.chunks k JOIN app.text_vectors v ON v.tenant_id = k.tenant_id AND v.text_blind = k.text_blind;
SET LOCAL ROLE cordon_owner;
CREATE OR REPLACE FUNCTION app.index_vectors(p_tenant_id uuid, p_model text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' SET max_parallel_maintenance_workers = 0 AS $$
DECLARE
    name  text := 'chunk_vectors_' || replace(p_tenant_id::text, '-', '');
BEGIN
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON app.%I USING hnsw (embedding ext.halfvec_cosine_ops) WHERE model = %L',
                   name || '_' || left(encode(sha256(convert_to(p_model, 'UTF8')), 'hex'), 8), name, p_model);
END $$;
CREATE OR REPLACE FUNCTION app.keep_vector_index(p_tenant_id uuid, p_model text) RETURNS void
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
CREATE OR REPLACE FUNCTION app.make_vector_partition(p_tenant_id uuid) RETURNS void
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
SELECT app.make_vector_partition(s.tenant_id), app.index_vectors(s.tenant_id, s.model), app.index_vectors(s.tenant_id, coalesce(s.next_model, s.model))
    FROM app.vector_sets s WHERE s.home = s.tenant_id;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;
SET LOCAL ROLE cordon_keys_definer;
DROP FUNCTION keys.vectors_follow(), keys.hold_vectors(text, bytea[]), keys.hold_texts(uuid[]), keys.open_reembedding(uuid, uuid[]), keys.reembed_clean(integer);
CREATE OR REPLACE FUNCTION keys.known_vectors(p_model text, p_blinds bytea[]) RETURNS TABLE (text_blind bytea, embedding ext.halfvec)
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
CREATE OR REPLACE FUNCTION keys.promote_due(p_threshold integer) RETURNS integer
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
CREATE OR REPLACE FUNCTION keys.promote_step(p_n integer, OUT moved integer, OUT is_over boolean)
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
CREATE OR REPLACE FUNCTION keys.promote_progress(OUT done bigint, OUT total bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FILTER (WHERE v.home = v.tenant_id), count(*) FROM app.chunk_vectors v
        WHERE v.tenant_id = keys.job_home('promote') AND v.home IN ('00000000-0000-0000-0000-000000000000', v.tenant_id)
$$;
CREATE OR REPLACE FUNCTION keys.reembed_progress(OUT done bigint, OUT total bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  app.vector_sets;
BEGIN
    SELECT s.* INTO STRICT own FROM app.vector_sets s WHERE s.tenant_id = keys.job_home('reembed');
    SELECT count(*) INTO done FROM app.chunk_vectors v WHERE v.tenant_id = own.tenant_id AND v.model = coalesce(own.next_model, own.model)
        AND v.home IN ('00000000-0000-0000-0000-000000000000', own.tenant_id);
    SELECT count(*) INTO total FROM app.chunks k WHERE k.tenant_id = own.tenant_id;
END $$;
CREATE OR REPLACE FUNCTION keys.reembed_next(p_document_id uuid, p_ordinal integer, p_n integer) RETURNS TABLE (document_id uuid, chunk_id uuid, ordinal integer)
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
CREATE OR REPLACE FUNCTION keys.reembed_switch() RETURNS boolean
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
DROP FUNCTION keys.embedding_home();
GRANT EXECUTE ON FUNCTION keys.open_reembedding(uuid, uuid[]), keys.reembed_clean(integer) TO cordon_ingest;
RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
DROP TABLE app.text_vectors;
ALTER TABLE app.chunks DROP COLUMN text_blind;
RESET ROLE;
