-- Every vector of the model that is searched goes back into the shared partition; those of a model to come are forgotten.
DELETE FROM jobs.jobs WHERE kind IN ('promote', 'reembed');
DELETE FROM jobs.schedules WHERE name = 'promote';
DROP FUNCTION keys.promote_due(integer), keys.promote_begin(), keys.promote_step(integer), keys.promote_progress(), keys.hold_vector_set(text),
    keys.known_vectors(text, bytea[]), keys.begin_reembedding(uuid, text), keys.reembed_begin(), keys.reembed_progress(),
    keys.reembed_next(uuid, integer, integer), keys.open_reembedding(uuid, uuid[]), keys.reembed_switch(), keys.reembed_clean(integer),
    keys.job_home(text), jobs.enqueue_promotion(uuid, uuid), jobs.postpone(text, integer);
DROP FUNCTION app.make_vector_partition(uuid), app.index_vectors(uuid, text), app.keep_vector_index(uuid, text);
REVOKE SELECT (id, ordinal, text_enc) ON app.chunks FROM cordon_keys_definer;
REVOKE SELECT (name_enc) ON app.documents FROM cordon_keys_definer;

ALTER TABLE app.chunk_vectors RENAME TO chunk_vectors_0028;
ALTER INDEX app.chunk_vectors_pkey RENAME TO chunk_vectors_0028_pkey;
ALTER INDEX app.chunk_vectors_document RENAME TO chunk_vectors_0028_document;
SET LOCAL ROLE cordon_owner;
CREATE TABLE app.chunk_vectors (
    tenant_id    uuid NOT NULL,
    chunk_id     uuid NOT NULL,
    document_id  uuid NOT NULL,
    model        text NOT NULL CHECK (length(model) BETWEEN 1 AND 200),
    embedding    ext.halfvec(1024) NOT NULL,
    PRIMARY KEY (tenant_id, chunk_id, model),
    FOREIGN KEY (tenant_id, document_id, chunk_id) REFERENCES app.chunks (tenant_id, document_id, id) ON DELETE CASCADE
) PARTITION BY LIST (tenant_id);
ALTER TABLE app.chunk_vectors ALTER COLUMN embedding SET STORAGE PLAIN;
CREATE TABLE app.chunk_vectors_default PARTITION OF app.chunk_vectors DEFAULT;
CREATE INDEX chunk_vectors_document ON app.chunk_vectors (tenant_id, document_id);
RESET ROLE;
INSERT INTO app.chunk_vectors SELECT v.tenant_id, v.chunk_id, v.document_id, v.model, v.embedding
    FROM app.chunk_vectors_0028 v JOIN app.vector_sets s ON s.tenant_id = v.tenant_id AND s.model = v.model;
DROP TABLE app.vector_sets, app.chunk_vectors_0028;
DROP FUNCTION app.check_vector_set();
SET LOCAL ROLE cordon_owner;
ALTER TABLE app.chunk_vectors ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.chunk_vectors FORCE ROW LEVEL SECURITY;
CREATE POLICY query_reads ON app.chunk_vectors FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('query')));
CREATE POLICY labels ON app.chunk_vectors AS RESTRICTIVE FOR SELECT TO cordon_query
    USING (document_id NOT IN (SELECT authz.hidden_documents()));
CREATE POLICY ingest_reads ON app.chunk_vectors FOR SELECT TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant())
           AND ((SELECT authz.may('documents:write')) OR document_id = (SELECT authz.job_document())));
CREATE POLICY ingest_adds ON app.chunk_vectors FOR INSERT TO cordon_ingest
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND document_id = (SELECT authz.job_document()));
CREATE POLICY ingest_removes ON app.chunk_vectors FOR DELETE TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant()) AND document_id = (SELECT authz.job_document()));
GRANT SELECT ON app.chunk_vectors TO cordon_query;
GRANT SELECT, INSERT, DELETE ON app.chunk_vectors TO cordon_ingest;

CREATE FUNCTION app.add_vector_partition(p_tenant_id uuid) RETURNS regclass
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name  text := 'chunk_vectors_' || replace(p_tenant_id::text, '-', '');
BEGIN
    EXECUTE format('CREATE TABLE app.%I PARTITION OF app.chunk_vectors FOR VALUES IN (%L)', name, p_tenant_id);
    PERFORM app.guard_partition('app.chunk_vectors', format('app.%I', name)::regclass);
    -- CVE-2026-3172: a parallel build may leak pages of other relations
    PERFORM set_config('max_parallel_maintenance_workers', '0', true);
    EXECUTE format('CREATE INDEX ON app.%I USING hnsw (embedding ext.halfvec_cosine_ops)', name);
    RETURN format('app.%I', name)::regclass;
END $$;
SELECT app.guard_partition('app.chunk_vectors', 'app.chunk_vectors_default');
DELETE FROM auth.role_scopes WHERE scope = 'vectors:manage';
DELETE FROM auth.scopes WHERE name = 'vectors:manage';
RESET ROLE;
