SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;
SET LOCAL ROLE cordon_keys_definer;

CREATE OR REPLACE FUNCTION keys.open(event_id uuid) RETURNS TABLE (document_id uuid, version integer, wrapped bytea)
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
          AND (d.content_type <> 'application/x-tar' OR authz.may('evidence:manage'))
          AND k.document_id NOT IN (SELECT authz.hidden_documents())
        ORDER BY k.document_id, k.version DESC;
END $$;

CREATE OR REPLACE FUNCTION keys.open_conversation(event_id uuid) RETURNS TABLE (conversation_id uuid, version integer, wrapped bytea)
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

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
RESET ROLE;
