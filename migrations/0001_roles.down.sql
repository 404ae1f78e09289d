-- Takes everything of this database away; the roles go only when no other database of the cluster uses them.
DROP SCHEMA keys, jobs, app, auth, authz;
DROP EXTENSION vector;
DROP EXTENSION pgcrypto;
DROP SCHEMA ext;
GRANT USAGE ON LANGUAGE plpgsql, sql TO PUBLIC;

DO $$
DECLARE
    f regprocedure;
    r text;
BEGIN
    FOR f IN SELECT p.oid::regprocedure FROM pg_proc p
             WHERE p.pronamespace = 'pg_catalog'::regnamespace AND (p.proname LIKE 'lo\_%' OR p.proname IN ('loread', 'lowrite'))
               AND p.proname NOT IN ('lo_import', 'lo_export')       -- these were the superuser's before, too
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', f);
    END LOOP;
    FOREACH r IN ARRAY ARRAY['cordon_owner', 'cordon_authz_definer', 'cordon_jobs_definer', 'cordon_keys_definer',
        'cordon_audit_definer', 'cordon_auth', 'cordon_ingest', 'cordon_jobs', 'cordon_query', 'cordon_audit_reader', 'cordon_audit']
    LOOP
        EXECUTE format('DROP OWNED BY %I', r);
        BEGIN
            EXECUTE format('DROP ROLE %I', r);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE NOTICE 'role % stays: another database uses it', r;
        END;
    END LOOP;
END $$;
