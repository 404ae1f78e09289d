-- Ends of processes: one that has answered all it was asked and stops says so, under the id of its start. One that was killed
-- cannot; so each start tells how many starts of that process before it have no end on the record.

SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

DROP FUNCTION audit.process_started(text, text, text, text);

-- Starts of the process in the last day that no end is on record of: those that still run, and those that ended without a word.
CREATE FUNCTION audit.unended_starts(p_process text) RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH said AS MATERIALIZED (
        SELECT l.resource_id, l.action, convert_from(l.event, 'UTF8')::jsonb -> 'detail' ->> 'process' AS process FROM audit.audit_logs l
            WHERE l.tenant_id = '00000000-0000-0000-0000-000000000000' AND l.action IN ('process.start', 'process.end') AND l.event IS NOT NULL
              AND l.recorded_at > clock_timestamp() - interval '1 day'
              AND l.event_id >= audit.month_floor(date_trunc('month', timezone('UTC', clock_timestamp()) - interval '1 day')::date)
        UNION ALL
        SELECT o.resource_id, o.action, o.detail ->> 'process' FROM audit.audit_outbox o WHERE o.action IN ('process.start', 'process.end'))
    SELECT count(DISTINCT s.resource_id)::integer FROM said s WHERE s.action = 'process.start' AND s.process = p_process
        AND NOT EXISTS (SELECT FROM said e WHERE e.action = 'process.end' AND e.resource_id = s.resource_id)
$$;

-- As before, under the id of this start.
CREATE FUNCTION audit.process_started(p_process text, p_instance uuid, p_version text, p_settings text, p_changed text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF ((session_user, p_process) IN (('cordon_auth', 'auth'), ('cordon_ingest', 'ingest-worker'), ('cordon_query', 'query'), ('cordon_audit', 'audit-writer'))
        AND p_instance IS NOT NULL AND p_settings ~ '^[0-9a-f]{64}$' AND p_changed ~ '^([A-Z0-9_]{1,64}(,[A-Z0-9_]{1,64}){0,99})?$') IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: not a start of this role''s process' USING ERRCODE = '42501';
    END IF;
    PERFORM audit.record('process.start', '00000000-0000-0000-0000-000000000000', p_instance, '{}',
        jsonb_build_object('process', p_process, 'version', audit.code(p_version), 'settings', p_settings, 'changed', string_to_array(p_changed, ','),
                           'unended', audit.unended_starts(p_process)));
END $$;

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
        jsonb_build_object('process', p_process, 'version', audit.code(p_version), 'settings', p_settings, 'changed', string_to_array(p_changed, ','),
                           'unended', audit.unended_starts(p_process)));
    RETURN true;
END $$;

-- The end of a start that is on the record, once; each role speaks for itself and for the neighbour whom it hears. False: there is
-- no such start, or its end was said.
CREATE FUNCTION audit.process_ended(p_process text, p_instance uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nobody  uuid := '00000000-0000-0000-0000-000000000000';
    is_on   boolean;
BEGIN
    IF ((session_user, p_process) IN (('cordon_auth', 'auth'), ('cordon_ingest', 'ingest-worker'), ('cordon_query', 'query'), ('cordon_audit', 'audit-writer'),
                                      ('cordon_auth', 'edge'), ('cordon_audit', 'embedding-worker')) AND p_instance IS NOT NULL) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: not an end that this role may report' USING ERRCODE = '42501';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('audit.process_reported' || p_instance, 0));
    SELECT bool_or(x.action = 'process.start' AND x.process = p_process) AND NOT bool_or(x.action = 'process.end') INTO is_on FROM (
        SELECT l.action, convert_from(l.event, 'UTF8')::jsonb -> 'detail' ->> 'process' AS process FROM audit.audit_logs l
            WHERE l.tenant_id = nobody AND l.resource_id = p_instance AND l.action IN ('process.start', 'process.end') AND l.event IS NOT NULL
        UNION ALL SELECT o.action, o.detail ->> 'process' FROM audit.audit_outbox o WHERE o.resource_id = p_instance AND o.action IN ('process.start', 'process.end')) x;
    IF is_on IS NOT TRUE THEN
        RETURN false;
    END IF;
    PERFORM audit.record('process.end', nobody, p_instance, '{}', jsonb_build_object('process', p_process));
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION audit.process_started(text, uuid, text, text, text), audit.process_ended(text, uuid) TO cordon_auth, cordon_ingest, cordon_query, cordon_audit;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
