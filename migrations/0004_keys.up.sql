-- Wrapped keys. No runtime role can read these tables: keys come out of functions, for what the ticket names.

SET LOCAL ROLE cordon_owner;

-- Two KMS blobs per tenant and version, made by auth when the tenant is created.
CREATE TABLE keys.tenant_keys (
    tenant_id   uuid NOT NULL REFERENCES auth.tenants,
    kind        text NOT NULL CHECK (kind IN ('data', 'search')),
    version     integer NOT NULL CHECK (version > 0),
    kms_key_id  text NOT NULL CHECK (length(kms_key_id) BETWEEN 1 AND 2048),
    blob        bytea NOT NULL CHECK (octet_length(blob) BETWEEN 1 AND 6144),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind, version)
);

-- The document's key, wrapped under the tenant's data key of that version.
CREATE TABLE keys.document_keys (
    tenant_id    uuid NOT NULL,
    document_id  uuid NOT NULL,
    version      integer NOT NULL CHECK (version > 0),
    wrapped      bytea NOT NULL CHECK (octet_length(wrapped) BETWEEN 1 AND 1024),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, document_id, version),
    FOREIGN KEY (tenant_id, document_id) REFERENCES app.documents (tenant_id, id) ON DELETE CASCADE
);

ALTER TABLE keys.tenant_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE keys.tenant_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON keys.tenant_keys TO cordon_keys_definer USING (true) WITH CHECK (true);
ALTER TABLE keys.document_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE keys.document_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON keys.document_keys TO cordon_keys_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON keys.tenant_keys, keys.document_keys TO cordon_keys_definer;

GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;
SET LOCAL ROLE cordon_keys_definer;

CREATE FUNCTION keys.put_tenant_key(tenant_id uuid, kind text, version integer, kms_key_id text, blob bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF authz.may('tenants:manage') IS NOT TRUE
       OR (put_tenant_key.tenant_id <> '00000000-0000-0000-0000-000000000000') IS NOT TRUE THEN
        RAISE EXCEPTION 'tenants:manage is missing' USING ERRCODE = '42501';
    END IF;
    INSERT INTO keys.tenant_keys (tenant_id, kind, version, kms_key_id, blob)
        VALUES (put_tenant_key.tenant_id, put_tenant_key.kind, put_tenant_key.version, put_tenant_key.kms_key_id, put_tenant_key.blob);
END $$;

-- Every key of the ticket's tenant, newest first.
CREATE FUNCTION keys.tenant_keys() RETURNS TABLE (kind text, version integer, kms_key_id text, blob bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := authz.tenant();
BEGIN
    IF home IS NULL THEN
        RAISE EXCEPTION 'no tenant' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT k.kind, k.version, k.kms_key_id, k.blob FROM keys.tenant_keys k
        WHERE k.tenant_id = home ORDER BY k.kind, k.version DESC;
END $$;

CREATE FUNCTION keys.put_document_key(document_id uuid, version integer, wrapped bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := authz.tenant();
BEGIN
    IF home IS NULL OR authz.may('documents:write') IS NOT TRUE THEN
        RAISE EXCEPTION 'documents:write is missing' USING ERRCODE = '42501';
    END IF;
    -- With its document and by its uploader only: a newer key would hide the one that opens it. A document of another
    -- tenant is refused exactly as one that does not exist.
    PERFORM FROM app.documents d WHERE d.tenant_id = home AND d.id = put_document_key.document_id AND d.status = 'processing'
        AND d.created_by = authz.user_id() AND d.key_version = put_document_key.version;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such document waits for a key' USING ERRCODE = '23503';
    END IF;
    INSERT INTO keys.document_keys (tenant_id, document_id, version, wrapped)
        VALUES (home, put_document_key.document_id, put_document_key.version, put_document_key.wrapped);
END $$;

-- The newest key of the one document that the job's ticket is about, while it is being processed: a job asked for
-- later is no way around the record that keys.open() wants.
CREATE FUNCTION keys.job_document_key() RETURNS TABLE (version integer, wrapped bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims := authz.current_claims();
BEGIN
    IF (c.kind = 'job' AND 'job:ingest' = ANY (c.scopes)) IS NOT TRUE THEN
        RAISE EXCEPTION 'not a job' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT k.version, k.wrapped FROM keys.document_keys k
        JOIN app.documents d ON d.tenant_id = k.tenant_id AND d.id = k.document_id AND d.status = 'processing'
        WHERE k.tenant_id = c.tenant_id AND k.document_id = c.document_id ORDER BY k.version DESC LIMIT 1;
END $$;

GRANT EXECUTE ON FUNCTION keys.put_tenant_key(uuid, text, integer, text, bytea) TO cordon_auth;
GRANT EXECUTE ON FUNCTION keys.tenant_keys() TO cordon_ingest, cordon_query;
GRANT EXECUTE ON FUNCTION keys.put_document_key(uuid, integer, bytea), keys.job_document_key() TO cordon_ingest;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
RESET ROLE;
