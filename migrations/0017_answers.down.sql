SET LOCAL ROLE cordon_owner;
DROP TRIGGER audit ON app.conversations;
DROP TRIGGER audit ON app.questions;
ALTER TABLE app.answers ADD COLUMN wrapped_key bytea;
RESET ROLE;
-- Those that follow another answer were sealed under its key, which their own id does not open.
DELETE FROM app.answers a WHERE a.id <> a.conversation_id;
UPDATE app.answers a SET wrapped_key = k.wrapped FROM keys.conversation_keys k WHERE k.tenant_id = a.tenant_id AND k.conversation_id = a.id;
SET LOCAL ROLE cordon_owner;
DROP POLICY query_own_conversation ON app.answers;
DROP POLICY keys_definer_reads ON app.answers;
DROP POLICY audit_definer_reads ON app.answers;
REVOKE SELECT (tenant_id, id, conversation_id, document_ids) ON app.answers FROM cordon_keys_definer;
REVOKE SELECT (tenant_id, conversation_id) ON app.answers FROM cordon_audit_definer;
REVOKE SELECT (resource_id) ON audit.audit_logs FROM cordon_keys_definer;
ALTER TABLE app.answers ALTER COLUMN wrapped_key SET NOT NULL,
    ADD CONSTRAINT answers_wrapped_key_check CHECK (octet_length(wrapped_key) <= 1024),
    DROP COLUMN conversation_id, DROP COLUMN state, DROP COLUMN document_ids;
GRANT INSERT (wrapped_key) ON app.answers TO cordon_query;
DROP FUNCTION keys.erase_answers(uuid, uuid[]);
DROP FUNCTION keys.put_conversation_key(uuid, integer, bytea), keys.open_conversation(uuid);
DROP TABLE keys.conversation_keys;
DROP TABLE app.questions;
DROP TABLE app.conversations;
DROP FUNCTION audit.on_question(), audit.on_conversation();
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;
CREATE OR REPLACE FUNCTION audit.on_answer() RETURNS trigger
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
RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
