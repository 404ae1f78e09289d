-- Documents, their chunks and vectors, the people they are about, and stored answers.
--
-- Every table: owned by cordon_owner, row-level security enabled and forced, keys composite (tenant_id, id) so that no
-- reference and no uniqueness reaches across tenants. Text that could identify anybody is ciphertext made by the services.

SET LOCAL ROLE cordon_owner;

CREATE TABLE app.subjects (
    tenant_id   uuid NOT NULL REFERENCES auth.tenants,
    id          uuid NOT NULL,
    mrn_blind   bytea NOT NULL CHECK (octet_length(mrn_blind) = 32),     -- HMAC under the tenant's search key
    mrn_enc     bytea NOT NULL CHECK (octet_length(mrn_enc) <= 4096),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, mrn_blind)
);

CREATE TABLE app.documents (
    tenant_id     uuid NOT NULL REFERENCES auth.tenants,
    id            uuid NOT NULL,
    subject_id    uuid,
    status        text NOT NULL DEFAULT 'processing' CHECK (status IN ('processing', 'ready', 'failed', 'deleted')),
    reason_code   text CHECK (reason_code ~ '^[A-Za-z][A-Za-z0-9_]{0,63}$'),
    content_type  text NOT NULL CHECK (length(content_type) BETWEEN 3 AND 128),
    bytes         bigint NOT NULL CHECK (bytes >= 0),
    name_enc      bytea CHECK (octet_length(name_enc) <= 4096),
    sha256_enc    bytea CHECK (octet_length(sha256_enc) <= 256),
    metadata_enc  bytea CHECK (octet_length(metadata_enc) <= 65536),
    key_version   integer NOT NULL CHECK (key_version > 0),
    labels        text[] NOT NULL DEFAULT '{}',
    pages         integer CHECK (pages >= 0),
    chunks        integer CHECK (chunks >= 0),
    created_by    uuid NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    ready_at      timestamptz,
    deleted_at    timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, created_by) REFERENCES auth.users (tenant_id, id),
    FOREIGN KEY (tenant_id, subject_id) REFERENCES app.subjects (tenant_id, id),
    CHECK ((status = 'failed') = (reason_code IS NOT NULL)),
    CHECK ((status = 'deleted') = (deleted_at IS NOT NULL))
);
CREATE INDEX documents_subject ON app.documents (tenant_id, subject_id) WHERE subject_id IS NOT NULL;

CREATE TABLE app.chunks (
    tenant_id     uuid NOT NULL,
    document_id   uuid NOT NULL,
    id            uuid NOT NULL,
    ordinal       integer NOT NULL CHECK (ordinal >= 0),
    page_from     integer CHECK (page_from > 0),
    page_to       integer CHECK (page_to >= page_from),
    start_offset  integer NOT NULL CHECK (start_offset >= 0),
    end_offset    integer NOT NULL CHECK (end_offset > start_offset),
    token_count   integer NOT NULL CHECK (token_count > 0),
    text_enc      bytea NOT NULL CHECK (octet_length(text_enc) <= 262144),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, document_id, ordinal),
    UNIQUE (tenant_id, document_id, id),
    FOREIGN KEY (tenant_id, document_id) REFERENCES app.documents (tenant_id, id) ON DELETE CASCADE
);

-- Small tenants share the DEFAULT partition and are scanned exactly; app.add_vector_partition() makes one for a big
-- tenant. Rights are on the parent only: a partition named directly is refused, and would show only its policies' rows.
CREATE TABLE app.chunk_vectors (
    tenant_id    uuid NOT NULL,
    chunk_id     uuid NOT NULL,
    document_id  uuid NOT NULL,
    model        text NOT NULL CHECK (length(model) BETWEEN 1 AND 200),
    embedding    ext.halfvec(1024) NOT NULL,
    PRIMARY KEY (tenant_id, chunk_id, model),
    -- the three columns, so that a vector cannot name one document and the chunk of another
    FOREIGN KEY (tenant_id, document_id, chunk_id) REFERENCES app.chunks (tenant_id, document_id, id) ON DELETE CASCADE
) PARTITION BY LIST (tenant_id);
ALTER TABLE app.chunk_vectors ALTER COLUMN embedding SET STORAGE PLAIN;      -- 0.9 us a row to scan, no detoasting
CREATE TABLE app.chunk_vectors_default PARTITION OF app.chunk_vectors DEFAULT;
CREATE INDEX chunk_vectors_document ON app.chunk_vectors (tenant_id, document_id);

CREATE TABLE app.answers (
    tenant_id     uuid NOT NULL,
    id            uuid NOT NULL,
    user_id       uuid NOT NULL,
    question_enc  bytea NOT NULL CHECK (octet_length(question_enc) <= 65536),
    answer_enc    bytea NOT NULL CHECK (octet_length(answer_enc) <= 1048576),
    citations     jsonb NOT NULL,       -- ids, pages and offsets; never text
    model         text NOT NULL CHECK (length(model) BETWEEN 1 AND 200),
    created_at    timestamptz NOT NULL DEFAULT now(),
    event_id      uuid NOT NULL,        -- the audit event that permitted the disclosure
    wrapped_key   bytea NOT NULL CHECK (octet_length(wrapped_key) <= 1024),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id)
);
CREATE INDEX answers_user ON app.answers (tenant_id, user_id, id);

------------------------------------------------------------------------------------------------- status of a document

CREATE TABLE app.document_moves (
    from_status  text NOT NULL,
    to_status    text NOT NULL,
    PRIMARY KEY (from_status, to_status)
);
INSERT INTO app.document_moves (from_status, to_status) VALUES
    ('processing', 'ready'), ('processing', 'failed'),
    ('processing', 'deleted'), ('ready', 'deleted'), ('failed', 'deleted');

CREATE FUNCTION app.check_document_move() RETURNS trigger
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
CREATE TRIGGER check_move BEFORE UPDATE ON app.documents FOR EACH ROW EXECUTE FUNCTION app.check_document_move();
ALTER TABLE app.documents ENABLE ALWAYS TRIGGER check_move;
GRANT SELECT ON app.document_moves TO cordon_ingest, cordon_jobs_definer;

------------------------------------------------------------------------------------------------- policies and grants

ALTER TABLE app.subjects ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.subjects FORCE ROW LEVEL SECURITY;
ALTER TABLE app.documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.documents FORCE ROW LEVEL SECURITY;
ALTER TABLE app.chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.chunks FORCE ROW LEVEL SECURITY;
ALTER TABLE app.chunk_vectors ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.chunk_vectors FORCE ROW LEVEL SECURITY;
ALTER TABLE app.answers ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.answers FORCE ROW LEVEL SECURITY;

-- query: reads what the ticket's scope opens, writes only its own user's answers
CREATE POLICY query_reads ON app.subjects FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('documents:read')));
CREATE POLICY query_reads ON app.documents FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND ((SELECT authz.may('documents:read')) OR (SELECT authz.may('query'))));
CREATE POLICY query_reads ON app.chunks FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('query')));
CREATE POLICY query_reads ON app.chunk_vectors FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('query')));
CREATE POLICY query_reads ON app.answers FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND (SELECT authz.may('query')));
CREATE POLICY query_adds ON app.answers FOR INSERT TO cordon_query
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND (SELECT authz.may('query')));

-- ingest-worker under a user's ticket: creates and deletes documents; under a job's ticket: that one document only.
-- Chunks write no audit record of their own: they come and go only with a change of their document, which does.
CREATE POLICY ingest_reads ON app.subjects FOR SELECT TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant()) AND ((SELECT authz.may('documents:write')) OR (SELECT authz.may('job:ingest'))));
CREATE POLICY ingest_adds ON app.subjects FOR INSERT TO cordon_ingest
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND ((SELECT authz.may('documents:write')) OR (SELECT authz.may('job:ingest'))));
CREATE POLICY ingest_reads ON app.documents FOR SELECT TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant())
           AND ((SELECT authz.may('documents:write')) OR id = (SELECT authz.job_document())));
CREATE POLICY ingest_adds ON app.documents FOR INSERT TO cordon_ingest
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND created_by = (SELECT authz.user_id())
                AND (SELECT authz.may('documents:write')));
CREATE POLICY ingest_changes ON app.documents FOR UPDATE TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant())
           AND ((SELECT authz.may('documents:write')) OR id = (SELECT authz.job_document())));
CREATE POLICY ingest_reads ON app.chunks FOR SELECT TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant())
           AND ((SELECT authz.may('documents:write')) OR document_id = (SELECT authz.job_document())));
CREATE POLICY ingest_adds ON app.chunks FOR INSERT TO cordon_ingest
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND document_id = (SELECT authz.job_document()));
CREATE POLICY ingest_removes ON app.chunks FOR DELETE TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant())
           AND ((SELECT authz.may('documents:write')) OR document_id = (SELECT authz.job_document()))
           AND EXISTS (SELECT FROM app.documents d WHERE d.tenant_id = chunks.tenant_id AND d.id = chunks.document_id
                       AND d.status = CASE WHEN (SELECT authz.may('documents:write')) THEN 'deleted' ELSE 'processing' END));
CREATE POLICY ingest_reads ON app.chunk_vectors FOR SELECT TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant())
           AND ((SELECT authz.may('documents:write')) OR document_id = (SELECT authz.job_document())));
CREATE POLICY ingest_adds ON app.chunk_vectors FOR INSERT TO cordon_ingest
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND document_id = (SELECT authz.job_document()));
CREATE POLICY ingest_removes ON app.chunk_vectors FOR DELETE TO cordon_ingest
    USING (tenant_id = (SELECT authz.tenant()) AND document_id = (SELECT authz.job_document()));

-- jobs: a dead job's document becomes 'failed' in the same transaction, whoever found out, and loses its chunks
CREATE POLICY jobs_definer_reads ON app.documents FOR SELECT TO cordon_jobs_definer USING (true);
CREATE POLICY jobs_definer_fails ON app.documents FOR UPDATE TO cordon_jobs_definer USING (status = 'processing') WITH CHECK (status = 'failed');
CREATE POLICY jobs_definer_removes ON app.chunks TO cordon_jobs_definer
    USING (EXISTS (SELECT FROM app.documents d WHERE d.tenant_id = chunks.tenant_id AND d.id = chunks.document_id AND d.status = 'failed'));

GRANT SELECT ON app.subjects, app.documents, app.chunks, app.chunk_vectors, app.answers TO cordon_query;
GRANT INSERT (tenant_id, id, user_id, question_enc, answer_enc, citations, model, event_id, wrapped_key) ON app.answers TO cordon_query;

GRANT SELECT, INSERT (tenant_id, id, mrn_blind, mrn_enc) ON app.subjects TO cordon_ingest;
GRANT SELECT,
    INSERT (tenant_id, id, subject_id, content_type, bytes, name_enc, sha256_enc, metadata_enc, key_version, labels, created_by),
    UPDATE (subject_id, status, reason_code, metadata_enc, pages, chunks, deleted_at) ON app.documents TO cordon_ingest;
GRANT SELECT, INSERT, DELETE ON app.chunks, app.chunk_vectors TO cordon_ingest;

GRANT SELECT (tenant_id, id, status), UPDATE (status, reason_code) ON app.documents TO cordon_jobs_definer;
GRANT SELECT (tenant_id, document_id), DELETE ON app.chunks TO cordon_jobs_definer;

------------------------------------------------------------------------------------------------- partitions

-- Give a partition the protection of its parent: forced security and a copy of each policy. The parent's own policies
-- do not guard a partition that is named directly.
CREATE FUNCTION app.guard_partition(parent regclass, part regclass) RETURNS void
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

-- A partition of its own for one tenant, with its vector index. The tenant's rows must have left the DEFAULT partition
-- before (PostgreSQL refuses otherwise): the promotion job moves them in the same transaction. Owner only.
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

RESET ROLE;
