-- Erasures that the conversations have asked for keep their rows under another reason.
SET LOCAL ROLE cordon_owner;
DROP TRIGGER needs_documents ON app.answers;
DROP TRIGGER share_follows ON app.conversations;
DROP TRIGGER conversations_follow ON app.documents;
RESET ROLE;
DROP FUNCTION keys.key_ages(integer), keys.work_states(), keys.answer_needs_documents(), keys.share_follows(), keys.conversations_follow(),
    keys.add_erasure(uuid, text, uuid);
UPDATE app.erasures SET reason_code = 'retention_over' WHERE reason_code IN ('document_deleted', 'conversation_deleted');
DROP INDEX app.erasures_open;
ALTER TABLE app.erasures DROP CONSTRAINT erasures_reason_code_check;
ALTER TABLE app.erasures ADD CONSTRAINT erasures_reason_code_check CHECK (reason_code IN
    ('patient_request', 'retention_over', 'wrong_upload', 'contract_end', 'court_order'));
REVOKE SELECT (user_id) ON app.conversations FROM cordon_keys_definer;
DROP FUNCTION keys.end_conversations(uuid, uuid, uuid);
DROP FUNCTION jobs.undone(text);
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
SET LOCAL ROLE cordon_keys_definer;

CREATE OR REPLACE FUNCTION keys.packages_of(p_tenant_id uuid, p_documents uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF to_regclass('app.evidence_sources') IS NOT NULL THEN
        RETURN QUERY EXECUTE 'SELECT DISTINCT s.evidence_id FROM app.evidence_sources s WHERE s.tenant_id = $1 AND s.document_id = ANY ($2)'
            USING p_tenant_id, p_documents;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION keys.erase_rows(own app.erasures, p_document_id uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counts  jsonb;
    gone    uuid[] := '{}';
BEGIN
    PERFORM FROM app.documents d WHERE d.tenant_id = own.tenant_id AND d.id = p_document_id FOR UPDATE;
    IF to_regprocedure('keys.erase_answers(uuid,uuid[])') IS NOT NULL THEN
        EXECUTE 'SELECT coalesce(array_agg(e), ''{}'') FROM keys.erase_answers($1, $2) e' INTO gone USING own.tenant_id, ARRAY[p_document_id];
    END IF;
    INSERT INTO app.erasure_items (tenant_id, erasure_id, kind, id)
        SELECT own.tenant_id, own.id, 'conversation', g FROM unnest(gone) g ON CONFLICT DO NOTHING;
    counts := jsonb_build_object('conversations', cardinality(gone), 'chunks',
        (SELECT count(*) FROM app.chunks k WHERE k.tenant_id = own.tenant_id AND k.document_id = p_document_id));
    counts := counts || jsonb_build_object('jobs', jobs.forget_document(own.tenant_id, p_document_id));
    DELETE FROM app.documents d WHERE d.tenant_id = own.tenant_id AND d.id = p_document_id;
    RETURN counts;
END $$;

CREATE FUNCTION keys.erase_answers(p_tenant_id uuid, p_document_ids uuid[]) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM app.conversations c WHERE c.tenant_id = p_tenant_id
        AND c.id IN (SELECT a.conversation_id FROM app.answers a WHERE a.tenant_id = p_tenant_id AND a.document_ids && p_document_ids)
        RETURNING c.id
$$;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
RESET ROLE;
