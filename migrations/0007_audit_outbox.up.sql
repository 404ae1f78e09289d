-- Every change writes its own audit record, in its own transaction, by trigger: the record exists exactly when the
-- change does. Only the triggers' owner can write audit_outbox; audit-writer moves rows into the log by audit.drain().
-- Tenant, actor, session and job come from the ticket that this transaction entered with; the request id is the
-- edge's statement. Details are ids, codes and counts without white space: no free text gets in.

SET LOCAL ROLE cordon_owner;

CREATE TABLE audit.audit_outbox (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id      uuid NOT NULL,
    tenant_id     uuid NOT NULL,
    occurred_at   timestamptz NOT NULL,
    action        text NOT NULL CHECK (action ~ '^[a-z][a-z_.]{2,63}$'),
    actor_id      uuid,
    session_id    uuid,
    job_id        uuid,
    request_id    uuid,
    resource_id   uuid,
    document_ids  uuid[] NOT NULL,
    detail        jsonb NOT NULL CHECK (jsonb_typeof(detail) = 'object')
);

CREATE TRIGGER refuse_row BEFORE UPDATE ON audit.audit_outbox FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_statement BEFORE UPDATE OR TRUNCATE ON audit.audit_outbox FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.audit_outbox ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE audit.audit_outbox ENABLE ALWAYS TRIGGER refuse_statement;
ALTER TABLE audit.audit_outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit.audit_outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON audit.audit_outbox TO cordon_audit_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON audit.audit_outbox TO cordon_audit_definer;

-- SELECT ... FOR UPDATE asks for UPDATE on some column; the triggers above still refuse every update.
GRANT UPDATE (id) ON audit.audit_outbox TO cordon_audit_definer;

GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

------------------------------------------------------------------------------------------------- recording

-- Text that may stand in a detail: visible ASCII only, at most 128 characters.
CREATE FUNCTION audit.code(t text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(regexp_replace(t, '[^!-~]', '_', 'g'), 128)
$$;

-- p_actor and p_session stand in where the transaction has no ticket: a login, whose ticket is made by it.
CREATE FUNCTION audit.record(p_action text, p_tenant_id uuid, p_resource_id uuid, p_document_ids uuid[], p_detail jsonb,
                             p_actor_id uuid DEFAULT NULL, p_session_id uuid DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c        authz.claims := authz.current_claims();
    request  text := current_setting('cordon.request_id', true);
BEGIN
    -- policies have made this impossible; if one is ever wrong, the change does not happen
    IF c.tenant_id IS NOT NULL AND (c.tenant_id = p_tenant_id) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: a change to another tenant' USING ERRCODE = '42501';
    END IF;
    INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, actor_id, session_id, job_id, request_id,
                                    resource_id, document_ids, detail)
        VALUES (authz.uuid_v7(), p_tenant_id, clock_timestamp(), p_action,
                CASE WHEN c.kind IS NULL THEN p_actor_id ELSE c.user_id END,
                CASE WHEN c.kind IS NULL THEN p_session_id ELSE c.session_id END, c.job_id,
                CASE WHEN request ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' THEN request::uuid END,
                p_resource_id, p_document_ids, jsonb_strip_nulls(p_detail));
    PERFORM pg_notify('audit_outbox', '');
END $$;

-- Names of the columns, among these, whose values differ.
CREATE FUNCTION audit.changed(old_row jsonb, new_row jsonb, columns text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(c ORDER BY c), '[]') FROM unnest(columns) c WHERE old_row -> c IS DISTINCT FROM new_row -> c
$$;

CREATE FUNCTION audit.on_document() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fields  jsonb;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM audit.record('document.create', NEW.tenant_id, NEW.subject_id, ARRAY[NEW.id],
            jsonb_build_object('bytes', NEW.bytes, 'content_type', audit.code(split_part(NEW.content_type, ';', 1)), 'status', NEW.status));
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        PERFORM audit.record('document.erase', OLD.tenant_id, OLD.subject_id, ARRAY[OLD.id], jsonb_build_object('status', OLD.status));
        RETURN NULL;
    END IF;
    IF NEW.status <> OLD.status THEN
        PERFORM audit.record(CASE NEW.status WHEN 'deleted' THEN 'document.delete' ELSE 'document.status' END,
            NEW.tenant_id, NEW.subject_id, ARRAY[NEW.id],
            jsonb_build_object('from', OLD.status, 'to', NEW.status, 'reason', NEW.reason_code, 'pages', NEW.pages, 'chunks', NEW.chunks));
    END IF;
    fields := audit.changed(to_jsonb(OLD), to_jsonb(NEW), ARRAY['subject_id', 'labels', 'metadata_enc', 'name_enc', 'sha256_enc', 'key_version', 'bytes', 'content_type']
        || CASE WHEN NEW.status = OLD.status THEN ARRAY['reason_code', 'pages', 'chunks', 'deleted_at'] ELSE '{}' END);     -- else said above
    IF fields <> '[]' THEN
        PERFORM audit.record('document.update', NEW.tenant_id, NEW.subject_id, ARRAY[NEW.id], jsonb_build_object('changed', fields));
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_job() RETURNS trigger
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

CREATE FUNCTION audit.on_tenant() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fields  jsonb;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM audit.record('tenant.create', NEW.id, NEW.id, '{}', jsonb_build_object('slug', NEW.slug));
        RETURN NULL;
    END IF;
    fields := audit.changed(to_jsonb(OLD), to_jsonb(NEW), ARRAY['slug', 'name', 'status', 'kms_key_id']);
    IF fields <> '[]' THEN
        PERFORM audit.record('tenant.update', NEW.id, NEW.id, '{}', jsonb_build_object('changed', fields, 'status', NEW.status));
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_user() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fields  jsonb;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM audit.record('user.create', NEW.tenant_id, NEW.id, '{}', '{}', NEW.id);
        RETURN NULL;
    END IF;
    fields := audit.changed(to_jsonb(OLD), to_jsonb(NEW), ARRAY['issuer', 'subject', 'display_name', 'email', 'status']);
    IF fields <> '[]' THEN
        PERFORM audit.record('user.update', NEW.tenant_id, NEW.id, '{}', jsonb_build_object('changed', fields, 'status', NEW.status), NEW.id);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_session() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- roles are the identity provider's words: only those that mean something here are named
    known  jsonb := to_jsonb(ARRAY(SELECT DISTINCT s.role FROM auth.role_scopes s WHERE s.role = ANY (NEW.roles) ORDER BY 1));
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM audit.record('auth.session.start', NEW.tenant_id, NEW.id, '{}', jsonb_build_object('roles', known), NEW.user_id, NEW.id);
        RETURN NULL;
    END IF;
    IF NEW.revoked_at IS DISTINCT FROM OLD.revoked_at THEN
        PERFORM audit.record('auth.session.revoke', NEW.tenant_id, NEW.id, '{}',
            jsonb_build_object('reason', audit.code(NEW.revoked_reason), 'revoked', NEW.revoked_at IS NOT NULL), NEW.user_id, NEW.id);
    END IF;
    IF NEW.roles IS DISTINCT FROM OLD.roles THEN
        PERFORM audit.record('auth.session.update', NEW.tenant_id, NEW.id, '{}', jsonb_build_object('roles', known), NEW.user_id, NEW.id);
    END IF;
    RETURN NULL;
END $$;

-- What may do what: for every tenant, so on the log without one.
CREATE FUNCTION audit.on_policy() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('policy.change', '00000000-0000-0000-0000-000000000000', NULL, '{}',
        jsonb_build_object('table', TG_TABLE_NAME, 'verb', lower(TG_OP),
                           'old', CASE WHEN TG_OP <> 'INSERT' THEN audit.code(array_to_string(ARRAY(SELECT value FROM jsonb_each_text(to_jsonb(OLD))), '/')) END,
                           'new', CASE WHEN TG_OP <> 'DELETE' THEN audit.code(array_to_string(ARRAY(SELECT value FROM jsonb_each_text(to_jsonb(NEW))), '/')) END));
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_ticket_key() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('ticket_key.rotate', '00000000-0000-0000-0000-000000000000', NULL, '{}', jsonb_build_object('kid', NEW.kid));
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_tenant_key() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('tenant.key.create', NEW.tenant_id, NULL, '{}', jsonb_build_object('kind', NEW.kind, 'version', NEW.version));
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_subject() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('subject.create', NEW.tenant_id, NEW.id, '{}', '{}');
    RETURN NULL;
END $$;

-- Of the ticket that this transaction entered with, as rows of the log have it; NULL: none.
CREATE FUNCTION audit.ticket_digest() RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(convert_to(current_setting('authz.ticket', true), 'UTF8'))
$$;

-- An answer names the disclosure that permitted it: committed, about this very answer, under this very ticket.
CREATE FUNCTION audit.on_answer() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM audit.audit_logs l
        WHERE l.event_id = NEW.event_id AND l.tenant_id = NEW.tenant_id AND l.action = 'answer.disclose' AND l.outcome = 'success'
          AND l.resource_id = NEW.id AND l.ticket_digest = audit.ticket_digest();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit: an answer without its disclosure on record' USING ERRCODE = '42501';
    END IF;
    PERFORM audit.record('answer.store', NEW.tenant_id, NEW.id, '{}',
        jsonb_build_object('event_id', NEW.event_id, 'model', audit.code(NEW.model), 'citations', jsonb_array_length(NEW.citations)));
    RETURN NULL;
END $$;

------------------------------------------------------------------------------------------------- draining

-- Take up to n of the oldest records that nobody else is taking. They are gone from here when the transaction that
-- puts them into the log commits, and are back when it does not.
CREATE FUNCTION audit.drain(n integer)
RETURNS TABLE (event_id uuid, tenant_id uuid, occurred_at timestamptz, action text, actor_id uuid, session_id uuid, job_id uuid,
               request_id uuid, resource_id uuid, document_ids text[], detail text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH taken AS (
        DELETE FROM audit.audit_outbox o WHERE o.id = ANY (ARRAY(
            SELECT p.id FROM audit.audit_outbox p ORDER BY p.id LIMIT least(greatest(n, 0), 1000) FOR UPDATE SKIP LOCKED))
        RETURNING o.*)
    SELECT t.event_id, t.tenant_id, t.occurred_at, t.action, t.actor_id, t.session_id, t.job_id,
           t.request_id, t.resource_id, t.document_ids::text[], t.detail::text
        FROM taken t ORDER BY t.id
$$;

-- Asked at the end of a transaction that took a record: is it in the log? Whoever drains cannot lose one.
CREATE FUNCTION audit.refuse_loss() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM audit.audit_logs l WHERE l.event_id = OLD.event_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit: a record was taken and not put on the log' USING ERRCODE = '42501';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION audit.backlog(OUT waiting bigint, OUT oldest_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), coalesce(greatest(0, (extract(epoch FROM clock_timestamp() - min(o.occurred_at)) * 1000)::bigint), 0)
        FROM audit.audit_outbox o
$$;

GRANT EXECUTE ON FUNCTION audit.drain(integer), audit.backlog() TO cordon_audit;
GRANT EXECUTE ON FUNCTION audit.on_document(), audit.on_job(), audit.on_tenant(), audit.on_user(), audit.on_session(), audit.on_policy(),
    audit.on_ticket_key(), audit.on_tenant_key(), audit.on_subject(), audit.on_answer(), audit.refuse_loss() TO cordon_owner;     -- to make the triggers below

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
GRANT USAGE ON SCHEMA auth TO cordon_audit_definer;
GRANT SELECT (role) ON auth.role_scopes TO cordon_audit_definer;

CREATE CONSTRAINT TRIGGER refuse_loss AFTER DELETE ON audit.audit_outbox DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_loss();
ALTER TABLE audit.audit_outbox ENABLE ALWAYS TRIGGER refuse_loss;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON app.documents FOR EACH ROW EXECUTE FUNCTION audit.on_document();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON jobs.jobs FOR EACH ROW EXECUTE FUNCTION audit.on_job();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON auth.tenants FOR EACH ROW EXECUTE FUNCTION audit.on_tenant();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION audit.on_user();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON auth.sessions FOR EACH ROW EXECUTE FUNCTION audit.on_session();
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON auth.role_scopes FOR EACH ROW EXECUTE FUNCTION audit.on_policy();
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON auth.scopes FOR EACH ROW EXECUTE FUNCTION audit.on_policy();
CREATE TRIGGER audit AFTER INSERT ON authz.ticket_keys FOR EACH ROW EXECUTE FUNCTION audit.on_ticket_key();
CREATE TRIGGER audit AFTER INSERT ON keys.tenant_keys FOR EACH ROW EXECUTE FUNCTION audit.on_tenant_key();
CREATE TRIGGER audit AFTER INSERT ON app.subjects FOR EACH ROW EXECUTE FUNCTION audit.on_subject();
CREATE TRIGGER audit AFTER INSERT ON app.answers FOR EACH ROW EXECUTE FUNCTION audit.on_answer();
ALTER TABLE app.documents ENABLE ALWAYS TRIGGER audit;
ALTER TABLE jobs.jobs ENABLE ALWAYS TRIGGER audit;
ALTER TABLE auth.tenants ENABLE ALWAYS TRIGGER audit;
ALTER TABLE auth.users ENABLE ALWAYS TRIGGER audit;
ALTER TABLE auth.sessions ENABLE ALWAYS TRIGGER audit;
ALTER TABLE auth.role_scopes ENABLE ALWAYS TRIGGER audit;
ALTER TABLE auth.scopes ENABLE ALWAYS TRIGGER audit;
ALTER TABLE authz.ticket_keys ENABLE ALWAYS TRIGGER audit;
ALTER TABLE keys.tenant_keys ENABLE ALWAYS TRIGGER audit;
ALTER TABLE app.subjects ENABLE ALWAYS TRIGGER audit;
ALTER TABLE app.answers ENABLE ALWAYS TRIGGER audit;

------------------------------------------------------------------------------------------------- keys for what is on the record

CREATE POLICY keys_definer_reads ON app.documents FOR SELECT TO cordon_keys_definer USING (true);
GRANT SELECT (tenant_id, id, status, created_by, key_version) ON app.documents TO cordon_keys_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;
SET LOCAL ROLE cordon_keys_definer;

-- The keys of the documents that a disclosure names: the event must be committed, of this ticket's tenant, recorded
-- under this very ticket, successful and young. Newest key of each; deleted documents have none. 42501 for anything
-- else, whatever the reason.
CREATE FUNCTION keys.open(event_id uuid) RETURNS TABLE (document_id uuid, version integer, wrapped bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    home   uuid := authz.tenant();      -- raises unless this transaction entered with the ticket below
    named  uuid[];
BEGIN
    SELECT l.document_ids INTO named FROM audit.audit_logs l
        WHERE l.event_id = open.event_id AND l.tenant_id = home AND l.kind = 'disclosure' AND l.outcome = 'success'
          AND l.ticket_digest = sha256(convert_to(current_setting('authz.ticket'), 'UTF8'))
          AND l.recorded_at > clock_timestamp() - interval '5 min';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'keys.open: no disclosure on record' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT DISTINCT ON (k.document_id) k.document_id, k.version, k.wrapped
        FROM keys.document_keys k JOIN app.documents d ON d.tenant_id = k.tenant_id AND d.id = k.document_id
        WHERE k.tenant_id = home AND k.document_id = ANY (named) AND d.status <> 'deleted'
        ORDER BY k.document_id, k.version DESC;
END $$;
GRANT EXECUTE ON FUNCTION keys.open(uuid) TO cordon_query;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
RESET ROLE;
