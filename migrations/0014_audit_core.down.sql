DROP FUNCTION audit.append(uuid[], uuid[], bigint[], timestamptz[], timestamptz[], text[], text[], text[], uuid[], uuid[], uuid[], uuid[], uuid[],
    bigint[], bigint[], bytea[], bytea[], bytea[], bytea[], uuid[], bigint[]), audit.claims(text[]), audit.lock_heads(uuid[]),
    audit.advance_heads(uuid[], bigint[], bigint[], bytea[], bytea[], uuid[]), authz.check_many(text[]),
    audit.leaves_now(uuid, bigint, integer), audit.is_given_up(bigint);
REVOKE SELECT (event, leaf_hash) ON audit.audit_logs FROM cordon_audit_definer;
ALTER FUNCTION audit.claims_0010(text[]) RENAME TO claims;
ALTER FUNCTION audit.lock_heads_0006(uuid[]) RENAME TO lock_heads;
ALTER FUNCTION audit.advance_heads_0006(uuid[], bigint[], bigint[], bytea[], bytea[], uuid[]) RENAME TO advance_heads;
GRANT EXECUTE ON FUNCTION audit.claims(text[]), audit.lock_heads(uuid[]), audit.advance_heads(uuid[], bigint[], bigint[], bytea[], bytea[], uuid[])
    TO cordon_audit;

-- As 0006 made it.
CREATE OR REPLACE FUNCTION audit.make_partitions() RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    this_month  date := date_trunc('month', timezone('UTC', clock_timestamp()));
    month       date;
    name        text;
    made        integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit.make_partitions', 0));
    SELECT max(to_date(right(c.relname, 7), 'YYYY_MM')) + interval '1 month' INTO month
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit.audit_logs'::regclass;
    month := coalesce(month, this_month - interval '1 month');
    WHILE month <= this_month + interval '3 months' LOOP
        name := 'audit_logs_' || to_char(month, 'YYYY_MM');
        -- attached afterwards: CREATE ... PARTITION OF would lock the whole log
        EXECUTE format('CREATE TABLE audit.%I (LIKE audit.audit_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', name);       -- and no policy: nobody reaches it by its own name
        EXECUTE format('CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', name);
        EXECUTE format('ALTER TABLE audit.audit_logs ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)', name,
                       audit.month_floor(month), audit.month_floor((month + interval '1 month')::date));
        EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_statement', name);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_row', name);
        month := month + interval '1 month';
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
DROP FUNCTION audit.make_partition(regclass, date);
DROP TABLE audit.document_events;
ALTER TABLE audit.audit_logs DROP CONSTRAINT audit_logs_action_check;
ALTER TABLE audit.audit_logs ADD CONSTRAINT audit_logs_action_check CHECK (action ~ '^[a-z][a-z_.]{2,63}$');
