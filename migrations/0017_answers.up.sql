-- Conversations: answers that follow one another, sealed under one key; questions under way; vectors' promotion to a
-- partition of their own.

SET LOCAL ROLE cordon_owner;

CREATE TABLE app.conversations (
    tenant_id   uuid NOT NULL REFERENCES auth.tenants,
    id          uuid NOT NULL,          -- of its first answer
    user_id     uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id)
);
CREATE INDEX conversations_user ON app.conversations (tenant_id, user_id, id);

-- Its key, made and opened like a document's under the conversation's id. No runtime role reads this.
CREATE TABLE keys.conversation_keys (
    tenant_id        uuid NOT NULL,
    conversation_id  uuid NOT NULL,
    version          integer NOT NULL CHECK (version > 0),
    wrapped          bytea NOT NULL CHECK (octet_length(wrapped) BETWEEN 1 AND 1024),
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, conversation_id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES app.conversations (tenant_id, id) ON DELETE CASCADE
);

-- Questions whose answer is being made. Its row is gone once the answer is stored, or when there will be none; what is
-- left of a process that died says so by its age.
CREATE TABLE app.questions (
    tenant_id        uuid NOT NULL,
    id               uuid NOT NULL,     -- of the answer to come
    user_id          uuid NOT NULL,
    conversation_id  uuid NOT NULL,     -- the answer's own id: it begins one
    event_id         uuid NOT NULL,     -- the disclosure that permits the answer
    document_ids     uuid[] NOT NULL,   -- all whose text the model is given
    asked_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id)
);

ALTER TABLE app.answers
    ADD COLUMN conversation_id uuid,
    ADD COLUMN state text NOT NULL DEFAULT 'complete' CHECK (state IN ('complete', 'interrupted')),    -- interrupted: as far as it was shown
    ADD COLUMN document_ids uuid[] NOT NULL DEFAULT '{}';
-- For erasure, by functions whose owner sees all rows: under row-level security no reader's && would use it.
CREATE INDEX answers_documents ON app.answers USING gin (document_ids);
CREATE INDEX answers_conversation ON app.answers (tenant_id, conversation_id, id);
RESET ROLE;

-- Answers of before become conversations of one turn: their own key was made under their own id.
INSERT INTO app.conversations (tenant_id, id, user_id, created_at) SELECT a.tenant_id, a.id, a.user_id, a.created_at FROM app.answers a;
INSERT INTO keys.conversation_keys (tenant_id, conversation_id, version, wrapped, created_at)
    SELECT a.tenant_id, a.id, 1, a.wrapped_key, a.created_at FROM app.answers a;
UPDATE app.answers SET conversation_id = id,
    document_ids = ARRAY(SELECT DISTINCT (c ->> 'document_id')::uuid FROM jsonb_array_elements(citations) c);

SET LOCAL ROLE cordon_owner;
ALTER TABLE app.answers
    DROP COLUMN wrapped_key,
    ALTER COLUMN conversation_id SET NOT NULL,
    ALTER COLUMN document_ids DROP DEFAULT,
    ADD FOREIGN KEY (tenant_id, conversation_id) REFERENCES app.conversations (tenant_id, id) ON DELETE CASCADE;

------------------------------------------------------------------------------------------------- policies and grants

ALTER TABLE app.conversations ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.conversations FORCE ROW LEVEL SECURITY;
ALTER TABLE keys.conversation_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE keys.conversation_keys FORCE ROW LEVEL SECURITY;
ALTER TABLE app.questions ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.questions FORCE ROW LEVEL SECURITY;

-- Only whoever began a conversation goes on with it, reads it or deletes it.
CREATE POLICY query_own ON app.conversations TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND (SELECT authz.may('query')))
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND (SELECT authz.may('query')));
CREATE POLICY query_own ON app.questions TO cordon_query
    USING (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND (SELECT authz.may('query')))
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND (SELECT authz.may('query')));
CREATE POLICY query_own_conversation ON app.answers AS RESTRICTIVE FOR INSERT TO cordon_query
    WITH CHECK (EXISTS (SELECT FROM app.conversations c WHERE c.tenant_id = answers.tenant_id AND c.id = answers.conversation_id));
GRANT SELECT, DELETE, INSERT (tenant_id, id, user_id) ON app.conversations TO cordon_query;
GRANT SELECT, DELETE, INSERT (tenant_id, id, user_id, conversation_id, event_id, document_ids) ON app.questions TO cordon_query;
GRANT INSERT (conversation_id, state, document_ids) ON app.answers TO cordon_query;

CREATE POLICY definer ON keys.conversation_keys TO cordon_keys_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON keys.conversation_keys TO cordon_keys_definer;
CREATE POLICY keys_definer ON app.conversations TO cordon_keys_definer USING (true);
GRANT SELECT, DELETE ON app.conversations TO cordon_keys_definer;
CREATE POLICY keys_definer_reads ON app.answers FOR SELECT TO cordon_keys_definer USING (true);
GRANT SELECT (tenant_id, id, conversation_id, document_ids) ON app.answers TO cordon_keys_definer;
GRANT SELECT (resource_id) ON audit.audit_logs TO cordon_keys_definer;
CREATE POLICY audit_definer_reads ON app.questions FOR SELECT TO cordon_audit_definer USING (true);
GRANT SELECT ON app.questions TO cordon_audit_definer;
CREATE POLICY audit_definer_reads ON app.answers FOR SELECT TO cordon_audit_definer USING (true);
GRANT SELECT (tenant_id, conversation_id) ON app.answers TO cordon_audit_definer;
GRANT USAGE ON SCHEMA app TO cordon_audit_definer, cordon_keys_definer;

GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;

------------------------------------------------------------------------------------------------- keys of conversations

SET LOCAL ROLE cordon_keys_definer;

-- Once, with the conversation, by whoever begins it.
CREATE FUNCTION keys.put_conversation_key(conversation_id uuid, version integer, wrapped bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := authz.tenant();
BEGIN
    PERFORM FROM app.conversations c WHERE c.tenant_id = home AND c.id = put_conversation_key.conversation_id AND c.user_id = authz.user_id();
    IF NOT FOUND OR authz.may('query') IS NOT TRUE THEN
        RAISE EXCEPTION 'no such conversation waits for a key' USING ERRCODE = '42501';
    END IF;
    INSERT INTO keys.conversation_keys (tenant_id, conversation_id, version, wrapped)
        VALUES (home, put_conversation_key.conversation_id, put_conversation_key.version, put_conversation_key.wrapped);
END $$;

-- The key of the conversation that a disclosure is about, or of the one that holds the answer that it is about: committed,
-- of this ticket's tenant and user, recorded under this very ticket, successful and young. 42501 for anything else.
CREATE FUNCTION keys.open_conversation(event_id uuid) RETURNS TABLE (conversation_id uuid, version integer, wrapped bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    home   uuid := authz.tenant();
    named  uuid;
BEGIN
    SELECT l.resource_id INTO named FROM audit.audit_logs l
        WHERE l.event_id = open_conversation.event_id AND l.tenant_id = home AND l.kind = 'disclosure' AND l.outcome = 'success'
          AND l.ticket_digest = sha256(convert_to(current_setting('authz.ticket'), 'UTF8'))
          AND l.recorded_at > clock_timestamp() - interval '5 min';
    IF NOT FOUND OR authz.may('query') IS NOT TRUE THEN
        RAISE EXCEPTION 'keys.open_conversation: no disclosure on record' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT k.conversation_id, k.version, k.wrapped
        FROM keys.conversation_keys k JOIN app.conversations c ON c.tenant_id = k.tenant_id AND c.id = k.conversation_id
        WHERE k.tenant_id = home AND c.user_id = authz.user_id()
          AND (k.conversation_id = named
               OR k.conversation_id = (SELECT a.conversation_id FROM app.answers a WHERE a.tenant_id = home AND a.id = named));
END $$;

-- Erasure: every conversation with an answer made from one of these documents, whole, for its later turns may repeat the
-- earlier ones. Their ids, so that the caller destroys what else opens them. For functions of this owner only.
CREATE FUNCTION keys.erase_answers(p_tenant_id uuid, p_document_ids uuid[]) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM app.conversations c WHERE c.tenant_id = p_tenant_id
        AND c.id IN (SELECT a.conversation_id FROM app.answers a WHERE a.tenant_id = p_tenant_id AND a.document_ids && p_document_ids)
        RETURNING c.id
$$;

GRANT EXECUTE ON FUNCTION keys.put_conversation_key(uuid, integer, bytea), keys.open_conversation(uuid) TO cordon_query;
RESET ROLE;

------------------------------------------------------------------------------------------------- recording

SET LOCAL ROLE cordon_audit_definer;

-- A question under way names the disclosure that permits its answer: committed, about this very answer, under this very ticket.
CREATE FUNCTION audit.on_question() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM audit.audit_logs l
        WHERE l.event_id = NEW.event_id AND l.tenant_id = NEW.tenant_id AND l.action = 'answer.disclose' AND l.outcome = 'success'
          AND l.resource_id = NEW.id AND l.ticket_digest = audit.ticket_digest();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit: a question without its disclosure on record' USING ERRCODE = '42501';
    END IF;
    RETURN NULL;
END $$;

-- An answer ends its question, which may have begun under an earlier ticket of the same user.
CREATE OR REPLACE FUNCTION audit.on_answer() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM app.questions q
        WHERE q.tenant_id = NEW.tenant_id AND q.id = NEW.id AND q.user_id = NEW.user_id AND q.event_id = NEW.event_id
          AND q.conversation_id = NEW.conversation_id AND q.document_ids = NEW.document_ids;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit: an answer without its disclosure on record' USING ERRCODE = '42501';
    END IF;
    PERFORM audit.record('answer.store', NEW.tenant_id, NEW.id, '{}',
        jsonb_build_object('event_id', NEW.event_id, 'model', audit.code(NEW.model), 'citations', jsonb_array_length(NEW.citations),
                           'conversation_id', NEW.conversation_id, 'state', NEW.state));
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_conversation() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM audit.record('conversation.create', NEW.tenant_id, NEW.id, '{}', '{}');
        RETURN NEW;
    END IF;
    PERFORM audit.record('conversation.delete', OLD.tenant_id, OLD.id, '{}', jsonb_build_object('answers',
        (SELECT count(*) FROM app.answers a WHERE a.tenant_id = OLD.tenant_id AND a.conversation_id = OLD.id)));
    RETURN OLD;
END $$;
GRANT EXECUTE ON FUNCTION audit.on_question(), audit.on_conversation() TO cordon_owner;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
CREATE TRIGGER audit AFTER INSERT ON app.questions FOR EACH ROW EXECUTE FUNCTION audit.on_question();
ALTER TABLE app.questions ENABLE ALWAYS TRIGGER audit;
-- BEFORE a deletion, while its answers can be counted.
CREATE TRIGGER audit BEFORE INSERT OR DELETE ON app.conversations FOR EACH ROW EXECUTE FUNCTION audit.on_conversation();
ALTER TABLE app.conversations ENABLE ALWAYS TRIGGER audit;
RESET ROLE;
