-- Months that are archived stay so: without this version nothing would find their events.
DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.archive_months) THEN
        RAISE EXCEPTION 'months of the audit log are archived: there is no way back';
    END IF;
END $$;
DROP FUNCTION audit.drop_archived(date), audit.archive_drop(date), audit.release_log(), audit.hold_log(text), audit.archived_events(bigint[]),
    audit.archive_verified(date), audit.archive_held(date, uuid, bigint, boolean), audit.archive_leaves(date, uuid, bigint, bigint),
    audit.archive_objects(date, uuid, bigint, boolean, integer), audit.archive_detach(date, integer),
    audit.archive_put(uuid, date, integer, bigint[], bigint[], bigint[], bigint, bytea, bigint, timestamptz), audit.hashes_of(uuid, integer, bigint, integer),
    audit.anchored_head(uuid, bigint), audit.archive_rows(date, uuid, bigint, integer), audit.archive_begin(date, integer),
    audit.archive_lock(date, integer), audit.archive_due(integer), audit.held_logs(), audit.swap_archive(date), audit.open_archive(date);
DROP TABLE audit.archives, audit.archive_months, audit.log_holds;
DROP FUNCTION audit.on_archive(), audit.on_archive_month(), audit.on_log_hold();

-- As 0014 made it.
CREATE OR REPLACE FUNCTION audit.leaves_now(p_tenant_id uuid, p_first bigint, p_count integer) RETURNS TABLE (seq bigint, leaf bytea, is_as_stored boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.seq, sha256('\x00'::bytea || l.event), l.leaf_hash = sha256('\x00'::bytea || l.event) FROM audit.audit_logs l
        WHERE l.tenant_id = p_tenant_id AND l.seq >= p_first AND l.seq < p_first + least(p_count, 4096) ORDER BY l.seq
$$;
CREATE OR REPLACE FUNCTION audit.make_partition(parent regclass, month date) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    base   text := (SELECT c.relname FROM pg_class c WHERE c.oid = parent);
    name   text := base || '_' || to_char(month, 'YYYY_MM');
BEGIN
    IF to_regclass(format('audit.%I', name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE audit.%I (LIKE audit.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name, base);
    EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', name);
    EXECUTE format('ALTER TABLE audit.%I ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)', base, name,
                   audit.month_floor(month), audit.month_floor((month + interval '1 month')::date));
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_statement', name);
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_row', name);
    RETURN true;
END $$;
DROP FUNCTION audit.month_of(uuid);
REVOKE EXECUTE ON FUNCTION audit.month_floor(date) FROM cordon_audit_definer;
REVOKE SELECT (kind, session_id, job_id, request_id) ON audit.audit_logs FROM cordon_audit_definer;
ALTER TABLE audit.audit_logs DROP COLUMN archive_first, DROP COLUMN archive_offset, DROP COLUMN archive_bytes;
ALTER TABLE audit.audit_logs ALTER COLUMN event SET NOT NULL;

-- As 0018 made them.
DROP FUNCTION keys.place_hold(uuid, uuid, uuid, boolean, text, text);
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
SET LOCAL ROLE cordon_keys_definer;
CREATE FUNCTION keys.place_hold(hold_id uuid, document_id uuid, subject_id uuid, reason_code text, reference text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home  uuid := keys.home_for('holds:manage');
BEGIN
    IF place_hold.document_id IS NOT NULL THEN
        PERFORM FROM app.documents d WHERE d.tenant_id = home AND d.id = place_hold.document_id FOR NO KEY UPDATE;
    ELSE
        PERFORM FROM app.subjects s WHERE s.tenant_id = home AND s.id = place_hold.subject_id FOR NO KEY UPDATE;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'nothing to hold' USING ERRCODE = '23503';
    END IF;
    INSERT INTO app.holds (tenant_id, id, document_id, subject_id, reason_code, reference, placed_by)
        VALUES (home, place_hold.hold_id, place_hold.document_id, place_hold.subject_id, place_hold.reason_code, place_hold.reference, authz.user_id());
END $$;
RESET ROLE;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
GRANT EXECUTE ON FUNCTION keys.place_hold(uuid, uuid, uuid, text, text) TO cordon_ingest;
CREATE OR REPLACE FUNCTION audit.on_hold() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record(CASE TG_OP WHEN 'INSERT' THEN 'hold.place' ELSE 'hold.release' END, NEW.tenant_id, NEW.id,
        array_remove(ARRAY[NEW.document_id], NULL),
        jsonb_build_object('subject_id', NEW.subject_id, 'reason', NEW.reason_code, 'reference', nullif(NEW.reference, '')));
    RETURN NULL;
END $$;
DELETE FROM app.holds WHERE is_log;
DROP POLICY audit_definer_reads ON app.holds;
REVOKE SELECT (tenant_id, released_at) ON app.holds FROM cordon_audit_definer;
ALTER TABLE app.holds DROP CONSTRAINT holds_check;
ALTER TABLE app.holds DROP COLUMN is_log;
ALTER TABLE app.holds ADD CONSTRAINT holds_check CHECK (num_nonnulls(document_id, subject_id) = 1);
