-- Receipts of answers, witnesses' cosignatures, and packages of evidence.
--
-- A receipt says what an answer was made of: salted commitments to question, prompt, chunks and output, scores, models
-- and the decision that allowed it, as canonical JSON. Its SHA-256 is an event on the tenant's log, written with it; so the
-- log's checkpoints vouch for it. It holds no text, and outlives the answer: the salts are sealed beside the answer, under the
-- answer's own key and those of its documents, and go with them.

SET LOCAL ROLE cordon_owner;

CREATE TABLE app.receipts (
    tenant_id   uuid NOT NULL REFERENCES auth.tenants,
    answer_id   uuid NOT NULL,
    user_id     uuid NOT NULL,
    body        text NOT NULL CHECK (octet_length(body) BETWEEN 2 AND 65536),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, answer_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id),
    CONSTRAINT body_is_of_this_answer CHECK ((body::jsonb ->> 'answer_id', body::jsonb ->> 'tenant_id', body::jsonb ->> 'user_id')
                                             = (answer_id::text, tenant_id::text, user_id::text))
);
ALTER TABLE app.receipts ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.receipts FORCE ROW LEVEL SECURITY;
CREATE POLICY query_reads ON app.receipts FOR SELECT TO cordon_query
    USING (tenant_id = (SELECT authz.tenant())
           AND ((user_id = (SELECT authz.user_id()) AND (SELECT authz.may('query'))) OR (SELECT authz.may('audit:read'))));
CREATE POLICY query_adds ON app.receipts FOR INSERT TO cordon_query
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND (SELECT authz.may('query')));
GRANT SELECT, INSERT (tenant_id, answer_id, user_id, body) ON app.receipts TO cordon_query;

-- The seeds of the salts: of question, prompt and output under the answer's key; of the chunks of each document under the
-- document's, in the order in which the receipt names the documents first. NOT VALID: answers from before have no receipt.
ALTER TABLE app.answers
    ADD COLUMN salt_enc bytea CHECK (octet_length(salt_enc) <= 256),
    ADD COLUMN source_salts_enc bytea[] CHECK (cardinality(source_salts_enc) <= 32),
    ADD CONSTRAINT answers_receipt FOREIGN KEY (tenant_id, id) REFERENCES app.receipts (tenant_id, answer_id)
        DEFERRABLE INITIALLY DEFERRED NOT VALID;
GRANT INSERT (salt_enc, source_salts_enc) ON app.answers TO cordon_query;

GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;

------------------------------------------------------------------------------------------------- recording and proving

SET LOCAL ROLE cordon_owner;
GRANT SELECT (event, leaf_hash, actor_id) ON audit.audit_logs TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

CREATE FUNCTION audit.on_receipt() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('answer.receipt', NEW.tenant_id, NEW.answer_id, '{}',
        jsonb_build_object('receipt', encode(sha256(convert_to(NEW.body, 'UTF8')), 'hex')));
    RETURN NULL;
END $$;

-- What proofs are made of: hashes of the tree of the ticket's tenant, level 0 its leaves. They show nothing of the events, so
-- whoever may ask questions may have the proof of his receipt.
CREATE FUNCTION audit.tree_hashes(p_level integer, p_first bigint, p_count integer) RETURNS TABLE (hash bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := authz.tenant();
BEGIN
    IF home IS NULL OR (authz.may('audit:read') OR authz.may('audit:witness') OR authz.may('query') OR authz.may('job:evidence')) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: hashes are for those who may have proofs' USING ERRCODE = '42501';
    END IF;
    IF p_level = 0 THEN
        RETURN QUERY SELECT l.leaf_hash FROM audit.audit_logs l
            WHERE l.tenant_id = home AND l.seq >= p_first AND l.seq < p_first + p_count ORDER BY l.seq;
    ELSE
        RETURN QUERY SELECT n.hash FROM audit.tree_nodes n
            WHERE n.tenant_id = home AND n.level = p_level::smallint AND n.index >= p_first AND n.index < p_first + p_count ORDER BY n.index;
    END IF;
END $$;

-- The checkpoint of exactly this size, NULL: the newest, with the lines of its witnesses; of the platform's log instead of the
-- tenant's when asked for.
CREATE FUNCTION audit.find_checkpoint(p_size bigint, p_is_platform boolean)
RETURNS TABLE (size bigint, root bytea, note text, verifier text, signed_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    home  uuid := authz.tenant();
    log   uuid := CASE WHEN p_is_platform THEN '00000000-0000-0000-0000-000000000000' ELSE home END;
BEGIN
    IF home IS NULL OR (authz.may('audit:read') OR authz.may('audit:witness') OR authz.may('query') OR authz.may('job:evidence')) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: checkpoints are for those who may have proofs' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT c.size, c.root, c.note || coalesce((SELECT string_agg(w.line, '' ORDER BY w.key_name) FROM audit.cosignatures w
            WHERE w.tenant_id = c.tenant_id AND w.size = c.size), ''), c.verifier, c.signed_at
        FROM audit.checkpoints c WHERE c.tenant_id = log AND (p_size IS NULL OR c.size = p_size) ORDER BY c.size DESC LIMIT 1;
END $$;

-- The event that holds a receipt's digest, for whoever may read the receipt.
CREATE FUNCTION audit.receipt_event(p_answer_id uuid) RETURNS TABLE (seq bigint, event bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := authz.tenant();
BEGIN
    RETURN QUERY SELECT l.seq, l.event FROM audit.audit_logs l
        WHERE l.tenant_id = home AND l.resource_id = p_answer_id AND l.action = 'answer.receipt'
          AND (authz.may('audit:read') OR (l.actor_id = authz.user_id() AND authz.may('query')));
END $$;

-- Newest heads that the key in KMS has not signed yet. Its lines stand among the witnesses', under the log's own name.
CREATE FUNCTION audit.due_lines(n integer) RETURNS TABLE (tenant_id uuid, size bigint, origin text, note text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.tenant_id, c.size, split_part(c.note, E'\n', 1), c.note
        FROM (SELECT DISTINCT ON (k.tenant_id) k.tenant_id, k.size, k.note FROM audit.checkpoints k ORDER BY k.tenant_id, k.size DESC) c
        WHERE NOT EXISTS (SELECT FROM audit.cosignatures w WHERE w.tenant_id = c.tenant_id AND w.size = c.size
                          AND w.key_name = split_part(c.note, E'\n', 1))
        LIMIT least(greatest(n, 0), 1000)
$$;

CREATE FUNCTION audit.put_line(p_tenant_id uuid, p_size bigint, p_origin text, p_line text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO audit.cosignatures (tenant_id, size, key_name, line) VALUES (p_tenant_id, p_size, p_origin, p_line) ON CONFLICT DO NOTHING
$$;

-- What a witness said about a head of the ticket's tenant, or of the platform; query has checked the signature. False: it is
-- known already, whatever it said the first time.
CREATE FUNCTION audit.cosign(p_size bigint, p_is_platform boolean, p_key_name text, p_line text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := authz.tenant();
    log   uuid := CASE WHEN p_is_platform THEN '00000000-0000-0000-0000-000000000000' ELSE home END;
BEGIN
    IF home IS NULL OR authz.may('audit:witness') IS NOT TRUE THEN
        RAISE EXCEPTION 'audit:witness is missing' USING ERRCODE = '42501';
    END IF;
    IF EXISTS (SELECT FROM audit.checkpoints c WHERE c.tenant_id = log AND split_part(c.note, E'\n', 1) = p_key_name LIMIT 1) THEN
        RAISE EXCEPTION 'audit: a witness has a name of its own' USING ERRCODE = '23514';
    END IF;
    INSERT INTO audit.cosignatures (tenant_id, size, key_name, line) VALUES (log, p_size, p_key_name, p_line) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM audit.record('audit.cosign', home, NULL, '{}',
        jsonb_build_object('size', p_size, 'platform', p_is_platform, 'witness', audit.code(p_key_name)));
    RETURN true;
END $$;

GRANT EXECUTE ON FUNCTION audit.due_lines(integer), audit.put_line(uuid, bigint, text, text) TO cordon_audit;
GRANT EXECUTE ON FUNCTION audit.cosign(bigint, boolean, text, text) TO cordon_audit_reader;
GRANT EXECUTE ON FUNCTION audit.on_receipt() TO cordon_owner;
GRANT EXECUTE ON FUNCTION audit.tree_hashes(integer, bigint, integer), audit.find_checkpoint(bigint, boolean), audit.receipt_event(uuid)
    TO cordon_audit_reader;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
CREATE TRIGGER audit AFTER INSERT ON app.receipts FOR EACH ROW EXECUTE FUNCTION audit.on_receipt();
CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON app.receipts FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE app.receipts ENABLE ALWAYS TRIGGER audit;
ALTER TABLE app.receipts ENABLE ALWAYS TRIGGER refuse_row;

------------------------------------------------------------------------------------------------- scopes

ALTER TABLE auth.scopes DISABLE TRIGGER audit;
ALTER TABLE auth.role_scopes DISABLE TRIGGER audit;
INSERT INTO auth.scopes (name, realm) VALUES ('audit:witness', 'tenant');
INSERT INTO auth.role_scopes (role, scope) VALUES ('admin', 'audit:witness'), ('auditor', 'audit:witness');
ALTER TABLE auth.scopes ENABLE ALWAYS TRIGGER audit;
ALTER TABLE auth.role_scopes ENABLE ALWAYS TRIGGER audit;
RESET ROLE;
