DROP FUNCTION keys.open(uuid);
DROP POLICY keys_definer_reads ON app.documents;
REVOKE SELECT (tenant_id, id, status, created_by, key_version) ON app.documents FROM cordon_keys_definer;
DROP FUNCTION audit.on_document(), audit.on_job(), audit.on_tenant(), audit.on_user(), audit.on_session(), audit.on_policy(),
    audit.on_ticket_key(), audit.on_tenant_key(), audit.on_subject(), audit.on_answer(), audit.refuse_loss() CASCADE;      -- and the triggers
DROP FUNCTION audit.drain(integer), audit.backlog(), audit.changed(jsonb, jsonb, text[]),
    audit.record(text, uuid, uuid, uuid[], jsonb, uuid, uuid), audit.code(text), audit.ticket_digest();
DROP TABLE audit.audit_outbox;
REVOKE SELECT (role) ON auth.role_scopes FROM cordon_audit_definer;
REVOKE USAGE ON SCHEMA auth FROM cordon_audit_definer;
