-- What belongs to the database as a whole. A copy made from a template or restored from a dump does not carry it,
-- so cordon-migrate runs this file after every `up`. It must stay harmless to repeat.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());      -- CONNECT and TEMP
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO cordon_auth, cordon_ingest, cordon_jobs, cordon_query, '
                   'cordon_audit_reader, cordon_audit', current_database());
END $$;
