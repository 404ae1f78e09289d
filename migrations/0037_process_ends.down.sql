SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

DROP FUNCTION audit.process_started(text, uuid, text, text, text), audit.process_ended(text, uuid);

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

CREATE OR REPLACE FUNCTION audit.process_reported(p_process text, p_instance uuid, p_version text, p_settings text, p_changed text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF ((session_user, p_process) IN (('cordon_auth', 'edge'), ('cordon_audit', 'embedding-worker')) AND p_instance IS NOT NULL
        AND p_settings ~ '^[0-9a-f]{64}$' AND p_changed ~ '^([A-Z0-9_]{1,64}(,[A-Z0-9_]{1,64}){0,99})?$') IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: not a start that this role may report' USING ERRCODE = '42501';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('audit.process_reported' || p_instance, 0));
    PERFORM FROM audit.audit_outbox o WHERE o.resource_id = p_instance AND o.action = 'process.start';
    IF FOUND THEN
        RETURN false;
    END IF;
    PERFORM FROM audit.audit_logs l WHERE l.tenant_id = '00000000-0000-0000-0000-000000000000' AND l.resource_id = p_instance AND l.action = 'process.start';
    IF FOUND THEN
        RETURN false;
    END IF;
    -- whoever has taken over such a process does not flood the log with it
    IF (SELECT count(*) FROM audit.audit_outbox o WHERE o.action = 'process.start') + (SELECT count(*) FROM (SELECT l.recorded_at FROM audit.audit_logs l
            WHERE l.tenant_id = '00000000-0000-0000-0000-000000000000' AND l.action = 'process.start' ORDER BY l.seq DESC LIMIT 60) x
            WHERE x.recorded_at > clock_timestamp() - interval '1 minute') >= 60 THEN
        RAISE EXCEPTION 'audit: too many starts in a minute' USING ERRCODE = '53400';
    END IF;
    PERFORM audit.record('process.start', '00000000-0000-0000-0000-000000000000', p_instance, '{}',
        jsonb_build_object('process', p_process, 'version', audit.code(p_version), 'settings', p_settings, 'changed', string_to_array(p_changed, ',')));
    RETURN true;
END $$;

DROP FUNCTION audit.unended_starts(text);

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
