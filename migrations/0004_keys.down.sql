DROP FUNCTION keys.put_tenant_key(uuid, text, integer, text, bytea), keys.tenant_keys(),
    keys.put_document_key(uuid, integer, bytea), keys.job_document_key();
DROP TABLE keys.document_keys, keys.tenant_keys;
