-- A record that the log will never take cannot be made (ADR 0039): the outbox takes ids of months that the log takes, and no other, so a
-- change that would make one is refused; and no month is closed while somebody is putting a record of it there.
-- Should one be there all the same, it holds up its own tenant and no other.

SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

-- Does the log take events of this month? It is there, and was not closed.
CREATE FUNCTION audit.is_open(p_month date) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN to_regclass('audit.audit_logs_' || to_char(p_month, 'YYYY_MM')) IS NOT NULL AND NOT EXISTS (SELECT FROM audit.archive_months m WHERE m.month = p_month);
END $$;

-- CA002: the change does not happen. Its id is of this moment (audit.record), so the database's clock is wrong, or was.
CREATE FUNCTION audit.refuse_closed() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE     -- as audit.month_of() and audit.is_open(): each call of a function that sets its path would cost as much as all that is done here
    at  date := date_trunc('month', to_timestamp(('x' || substr(replace(NEW.event_id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0) AT TIME ZONE 'UTC')::date;
BEGIN
    IF to_regclass('audit.audit_logs_' || to_char(at, 'YYYY_MM')) IS NULL OR EXISTS (SELECT FROM audit.archive_months m WHERE m.month = at) THEN
        RAISE EXCEPTION 'audit: the log takes no events of %, is the clock of the database right?', to_char(at, 'YYYY-MM') USING ERRCODE = 'CA002';
    END IF;
    RETURN NEW;
END $$;
GRANT EXECUTE ON FUNCTION audit.refuse_closed() TO cordon_owner;

-- Records of months that the log does not take. Nobody alters or moves them; an operator has to know.
CREATE FUNCTION audit.refused_records() RETURNS TABLE (tenant_id uuid, month date, records bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.tenant_id, r.month, r.records
        FROM (SELECT o.tenant_id, audit.month_of(o.event_id) AS month, count(*) AS records FROM audit.audit_outbox o GROUP BY 1, 2) r
        WHERE audit.is_open(r.month) IS NOT TRUE ORDER BY r.tenant_id, r.month
$$;

-- As before. leaves_out: tenants that have a record which the log does not take, whole, since a log keeps its order.
DROP FUNCTION audit.drain(integer);
CREATE FUNCTION audit.drain(n integer, leaves_out boolean DEFAULT false)
RETURNS TABLE (event_id uuid, tenant_id uuid, occurred_at timestamptz, action text, actor_id uuid, session_id uuid, job_id uuid,
               request_id uuid, resource_id uuid, document_ids text[], detail text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH taken AS (
        DELETE FROM audit.audit_outbox o WHERE o.id = ANY (ARRAY(
            SELECT p.id FROM audit.audit_outbox p WHERE NOT leaves_out OR p.tenant_id NOT IN (SELECT r.tenant_id FROM audit.refused_records() r)
                ORDER BY p.id LIMIT least(greatest(n, 0), 1000) FOR UPDATE OF p SKIP LOCKED))
        RETURNING o.*)
    SELECT t.event_id, t.tenant_id, t.occurred_at, t.action, t.actor_id, t.session_id, t.job_id,
           t.request_id, t.resource_id, t.document_ids::text[], t.detail::text
        FROM taken t ORDER BY t.id;
END $$;
GRANT EXECUTE ON FUNCTION audit.drain(integer, boolean), audit.refused_records() TO cordon_audit;

-- As before; what is on its way into the outbox is waited for, so that archive_due, which looks there, sees it.
CREATE OR REPLACE FUNCTION audit.archive_begin(p_month date, p_live_months integer) RETURNS TABLE (tenant_id uuid, last bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT FROM audit.archive_months m WHERE m.month = p_month) THEN
        LOCK TABLE audit.audit_outbox IN SHARE MODE;
    END IF;
    PERFORM audit.archive_lock(p_month, p_live_months);
    INSERT INTO audit.archive_months (month) VALUES (p_month) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM audit.open_archive(p_month);
    END IF;
    RETURN QUERY SELECT a.tenant_id, a.last FROM audit.archives a WHERE a.month = p_month ORDER BY a.tenant_id DESC, a.last DESC LIMIT 1;
END $$;
RESET ROLE;

SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
CREATE TRIGGER refuse_closed BEFORE INSERT ON audit.audit_outbox FOR EACH ROW EXECUTE FUNCTION audit.refuse_closed();
ALTER TABLE audit.audit_outbox ENABLE ALWAYS TRIGGER refuse_closed;
RESET ROLE;
