DROP TRIGGER check_labels ON app.documents;
DROP FUNCTION audit.on_access(), audit.on_user_access(), audit.on_tenant_access() CASCADE;         -- and the triggers
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION audit.on_user();
ALTER TABLE auth.users ENABLE ALWAYS TRIGGER audit;

DROP FUNCTION audit.claims(text[]);
ALTER FUNCTION audit.claims_0006(text[]) RENAME TO claims;
GRANT EXECUTE ON FUNCTION audit.claims(text[]) TO cordon_audit;

DROP FUNCTION keys.open(uuid);
ALTER FUNCTION keys.open_0007(uuid) RENAME TO open;
GRANT EXECUTE ON FUNCTION keys.open(uuid) TO cordon_query;
DROP POLICY labels ON jobs.jobs;
DO $$
DECLARE
    part  regclass;
BEGIN
    FOR part IN SELECT i.inhrelid::regclass FROM pg_inherits i WHERE i.inhparent = 'app.chunk_vectors'::regclass LOOP
        EXECUTE format('DROP POLICY labels ON %s', part);
    END LOOP;
END $$;
DROP POLICY labels ON app.chunk_vectors;
DROP POLICY labels ON app.chunks;
REVOKE UPDATE (labels) ON app.documents FROM cordon_ingest;
DROP POLICY query_labels ON app.documents;
DROP POLICY ingest_labels ON app.documents;
DROP POLICY authz_definer_reads ON app.documents;
REVOKE SELECT (tenant_id, id, labels, bytes, status) ON app.documents FROM cordon_authz_definer;
REVOKE USAGE ON SCHEMA app FROM cordon_authz_definer;
DROP INDEX app.documents_labelled;

DROP POLICY auth_adds ON auth.users;
DROP POLICY auth_adjusts ON auth.tenants;
DROP TABLE auth.break_glass, auth.api_keys, auth.label_grants, auth.labels, auth.user_roles, auth.custom_role_scopes, auth.custom_roles;
DROP FUNCTION authz.admit(text, text, text, timestamptz, text, text[], text[], boolean, boolean, boolean, bytea, bytea, bytea, bytea),
    authz.admit_key(text, bytea), authz.mint(text, text, text, timestamptz, text, text[], text, text),
    authz.mint_job(uuid, uuid, text, uuid, uuid, bigint, text), authz.issue(uuid, uuid, uuid, text[], text[], timestamptz),
    authz.may_grant(text), authz.scopes_of(uuid, text[]), authz.email_index(uuid, bytea), authz.labels(), authz.grant_documents(),
    authz.hidden_documents(), authz.check_labels(), authz.tenant_usage(uuid);
ALTER FUNCTION authz.mint_0002(text, text, text, timestamptz, text, text[], text, text) RENAME TO mint;
ALTER FUNCTION authz.mint_job_0002(uuid, uuid, text, uuid, uuid, bigint, text) RENAME TO mint_job;
GRANT EXECUTE ON FUNCTION authz.mint(text, text, text, timestamptz, text, text[], text, text) TO cordon_auth;
GRANT EXECUTE ON FUNCTION authz.mint_job(uuid, uuid, text, uuid, uuid, bigint, text) TO cordon_jobs_definer;
ALTER TYPE authz.claims DROP ATTRIBUTE labels, DROP ATTRIBUTE grant_id, DROP ATTRIBUTE grant_documents;

-- Invitations and accounts of API keys are of no use to what was before; names and addresses come with the next token.
DELETE FROM auth.sessions s USING auth.users u WHERE u.tenant_id = s.tenant_id AND u.id = s.user_id AND u.subject IS NULL;
DELETE FROM auth.users WHERE subject IS NULL;
UPDATE auth.users SET status = 'disabled' WHERE status = 'deleted';
ALTER TABLE auth.users
    DROP CONSTRAINT users_status_check, DROP CONSTRAINT users_identity_check,
    DROP COLUMN name_enc, DROP COLUMN email_enc, DROP COLUMN email_index, DROP COLUMN profile_index,
    ALTER COLUMN issuer SET NOT NULL, ALTER COLUMN subject SET NOT NULL,
    ADD CONSTRAINT users_status_check CHECK (status IN ('active', 'disabled')),
    ADD COLUMN display_name text CHECK (length(display_name) <= 200),
    ADD COLUMN email text CHECK (length(email) <= 320);
GRANT UPDATE (display_name, email) ON auth.users TO cordon_authz_definer;
REVOKE INSERT (tenant_id, id, issuer, subject, status) ON auth.users FROM cordon_auth;
REVOKE UPDATE (issuer, subject, status) ON auth.users FROM cordon_authz_definer;
ALTER TABLE auth.tenants DROP COLUMN provisions_users, DROP COLUMN roles_from;
ALTER TABLE auth.role_scopes DROP CONSTRAINT role_scopes_role;
DROP TABLE auth.roles;
DELETE FROM auth.role_scopes WHERE scope LIKE 'breakglass:%';
DELETE FROM auth.scopes WHERE name LIKE 'breakglass:%';
ALTER TABLE auth.scopes DROP COLUMN is_phi, DROP COLUMN needs_step_up;
