DO $$
BEGIN
    IF to_regclass('migrate.applied') IS NOT NULL THEN
        DROP TRIGGER audit ON migrate.applied;
    END IF;
END $$;
SET LOCAL ROLE cordon_owner;
REVOKE USAGE ON SCHEMA audit FROM cordon_auth, cordon_ingest, cordon_query;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;
REVOKE EXECUTE ON FUNCTION audit.record(text, uuid, uuid, uuid[], jsonb, uuid, uuid) FROM SESSION_USER;
DROP FUNCTION audit.process_started(text, text, text, text), audit.on_migration();
RESET ROLE;
