-- What else belongs on the record: migrations that are applied or taken back, and processes that start.

SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
GRANT USAGE ON SCHEMA audit TO cordon_auth, cordon_ingest, cordon_query;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

-- A row of migrate.applied came or went, in the transaction of the migration itself.
CREATE FUNCTION audit.on_migration() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m  jsonb := to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END);
BEGIN
    PERFORM audit.record(CASE TG_OP WHEN 'DELETE' THEN 'migration.revert' ELSE 'migration.apply' END, '00000000-0000-0000-0000-000000000000', NULL, '{}',
        jsonb_build_object('version', m -> 'version', 'name', audit.code(m ->> 'name'),
                           'sha256', audit.code(CASE TG_OP WHEN 'DELETE' THEN m ->> 'down_sha256' ELSE m ->> 'up_sha256' END)));
    RETURN NULL;
END $$;

-- A process says with what it starts: a digest of its settings, and the names of those that are not as the tables have
-- them; never a value. Each role speaks for its own process only.
CREATE FUNCTION audit.process_started(p_process text, p_version text, p_settings text, p_changed text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF ((session_user, p_process) IN (('cordon_auth', 'auth'), ('cordon_ingest', 'ingest-worker'), ('cordon_query', 'query'), ('cordon_audit', 'audit-writer'))
        AND p_settings ~ '^[0-9a-f]{64}$' AND p_changed ~ '^([A-Z0-9_]{1,64}(,[A-Z0-9_]{1,64}){0,99})?$') IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: not a start of this role''s process' USING ERRCODE = '42501';
    END IF;
    PERFORM audit.record('process.start', '00000000-0000-0000-0000-000000000000', NULL, '{}',
        jsonb_build_object('process', p_process, 'version', audit.code(p_version), 'settings', p_settings, 'changed', string_to_array(p_changed, ',')));
END $$;

GRANT EXECUTE ON FUNCTION audit.process_started(text, text, text, text) TO cordon_auth, cordon_ingest, cordon_query, cordon_audit;
GRANT EXECUTE ON FUNCTION audit.on_migration() TO SESSION_USER;     -- to make the trigger below
GRANT EXECUTE ON FUNCTION audit.record(text, uuid, uuid, uuid[], jsonb, uuid, uuid) TO SESSION_USER;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;

-- Absent where a test runs these files by itself. What was applied before there was a trigger is said now.
DO $$
BEGIN
    IF to_regclass('migrate.applied') IS NULL THEN
        RETURN;
    END IF;
    PERFORM audit.record('migration.apply', '00000000-0000-0000-0000-000000000000', NULL, '{}',
            jsonb_build_object('version', a.version, 'name', a.name, 'sha256', a.up_sha256, 'applied_at', to_char(a.applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
        FROM (SELECT * FROM migrate.applied ORDER BY version) a;
    CREATE TRIGGER audit AFTER INSERT OR DELETE ON migrate.applied FOR EACH ROW EXECUTE FUNCTION audit.on_migration();
    ALTER TABLE migrate.applied ENABLE ALWAYS TRIGGER audit;
END $$;
