-- Roles, schemas, extensions. Run by an administrator who may CREATE ROLE; everything later is made as
-- cordon_owner or as the definer of its area, none of which can log in.
--
-- Roles belong to the cluster, not to the database: another database of the same cluster may have made them.

DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            -- role                    may log in
            ('cordon_owner',           false),   -- owns schemas and tables
            ('cordon_authz_definer',   false),   -- owns the functions of one area each, and nothing else
            ('cordon_jobs_definer',    false),
            ('cordon_keys_definer',    false),
            ('cordon_audit_definer',   false),
            ('cordon_auth',            true),    -- one per process, see docs/map.md
            ('cordon_ingest',          true),
            ('cordon_jobs',            true),
            ('cordon_query',           true),
            ('cordon_audit_reader',    true),
            ('cordon_audit',           true)
        ) AS r (name, may_login)
    LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOINHERIT %s', wanted.name,
                           CASE WHEN wanted.may_login THEN 'LOGIN' ELSE 'NOLOGIN' END);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
        IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = wanted.name
                   AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication
                        OR r.rolcanlogin <> wanted.may_login)) THEN
            RAISE EXCEPTION 'role % exists with powers that it must not have', wanted.name;
        END IF;
        -- A superuser can SET ROLE anyway; any other administrator must be a member to make objects for these.
        IF NOT wanted.may_login AND NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', wanted.name);
        END IF;
    END LOOP;
END $$;

CREATE SCHEMA IF NOT EXISTS ext;       -- an operator may have made it, with the extensions in it
CREATE SCHEMA authz AUTHORIZATION cordon_owner;
CREATE SCHEMA auth  AUTHORIZATION cordon_owner;
CREATE SCHEMA app   AUTHORIZATION cordon_owner;
CREATE SCHEMA jobs  AUTHORIZATION cordon_owner;
CREATE SCHEMA keys  AUTHORIZATION cordon_owner;

-- Extension objects are always written ext.<name> (operators as OPERATOR(ext.<=>)): no search_path reaches them.
CREATE EXTENSION IF NOT EXISTS pgcrypto WITH SCHEMA ext;
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA ext;
GRANT USAGE ON SCHEMA ext TO cordon_owner, cordon_authz_definer, cordon_jobs_definer, cordon_keys_definer,
    cordon_audit_definer, cordon_ingest, cordon_query;

-- pgcrypto is for definer functions only; the vector type is for everyone who may use the schema.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT d.objid::regprocedure FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
             WHERE d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_proc'::regclass
               AND d.deptype = 'e' AND e.extname = 'pgcrypto'
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO cordon_owner, cordon_authz_definer, cordon_jobs_definer, '
                       'cordon_keys_definer, cordon_audit_definer', f);
    END LOOP;
END $$;

-- No DO block and no function of its own for a role that somebody injected SQL into. Running existing functions needs no right to the language.
REVOKE USAGE ON LANGUAGE plpgsql, sql FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql, sql TO cordon_owner, cordon_authz_definer, cordon_jobs_definer, cordon_keys_definer, cordon_audit_definer;

REVOKE ALL ON SCHEMA public FROM PUBLIC;

-- Large objects have no row-level security: nobody gets to use them. (Where the administrator is no superuser, as on
-- RDS, this and some of the above only warn: functions of the server itself cannot be revoked there.)
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT p.oid::regprocedure FROM pg_proc p
             WHERE p.pronamespace = 'pg_catalog'::regnamespace AND (p.proname LIKE 'lo\_%' OR p.proname IN ('loread', 'lowrite'))
               AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $$;

-- What these roles make later is executable by nobody until it is granted.
ALTER DEFAULT PRIVILEGES FOR ROLE cordon_owner         REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE cordon_authz_definer REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE cordon_jobs_definer  REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE cordon_keys_definer  REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE cordon_audit_definer REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

GRANT USAGE ON SCHEMA authz TO cordon_authz_definer, cordon_jobs_definer, cordon_keys_definer, cordon_audit_definer,
    cordon_auth, cordon_ingest, cordon_query, cordon_audit_reader;
GRANT USAGE ON SCHEMA auth TO cordon_authz_definer, cordon_jobs_definer, cordon_auth;
GRANT USAGE ON SCHEMA app  TO cordon_jobs_definer, cordon_keys_definer, cordon_ingest, cordon_query;
GRANT USAGE ON SCHEMA jobs TO cordon_authz_definer, cordon_jobs_definer, cordon_ingest, cordon_jobs, cordon_query;
GRANT USAGE ON SCHEMA keys TO cordon_keys_definer, cordon_auth, cordon_ingest, cordon_query;
