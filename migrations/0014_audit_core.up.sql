-- The log at speed: a batch's tickets verified by one statement, its rows put by one, its heads moved by one; which
-- events name a document, by index. What the database enforces is what it was: a ticket that is not plainly good is
-- asked again by authz.check(), only cordon_audit inserts, rows and heads agree when they commit.

SET LOCAL ROLE cordon_owner;

-- The same words as before: with {2,63} in it the pattern takes twenty times as long.
ALTER TABLE audit.audit_logs DROP CONSTRAINT audit_logs_action_check;
ALTER TABLE audit.audit_logs ADD CONSTRAINT audit_logs_action_check CHECK (action ~ '^[a-z][a-z_.]*$' AND length(action) BETWEEN 3 AND 64);

------------------------------------------------------------------------------------------------- which events name a document

-- An index of the log, not part of it: the events' bytes say the same. In months, as the log is.
CREATE TABLE audit.document_events (
    tenant_id    uuid NOT NULL,
    document_id  uuid NOT NULL,
    seq          bigint NOT NULL,
    event_id     uuid NOT NULL,
    PRIMARY KEY (tenant_id, document_id, seq, event_id)
) PARTITION BY RANGE (event_id);
CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON audit.document_events FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.document_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.document_events ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE audit.document_events ENABLE ALWAYS TRIGGER refuse_statement;
ALTER TABLE audit.document_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit.document_events FORCE ROW LEVEL SECURITY;
CREATE POLICY writer_appends ON audit.document_events FOR INSERT TO cordon_audit WITH CHECK (true);
CREATE POLICY reader_reads ON audit.document_events FOR SELECT TO cordon_audit_reader
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('audit:read')));
GRANT INSERT ON audit.document_events TO cordon_audit;
GRANT SELECT ON audit.document_events TO cordon_audit_reader;

-- One month of one of the two tables, attached afterwards: CREATE ... PARTITION OF would lock the whole log. No policy:
-- nobody reaches a partition by its own name.
CREATE FUNCTION audit.make_partition(parent regclass, month date) RETURNS boolean
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

CREATE OR REPLACE FUNCTION audit.make_partitions() RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    this_month  date := date_trunc('month', timezone('UTC', clock_timestamp()));
    month       date;
    made        integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit.make_partitions', 0));
    -- from the oldest there is: months in which nothing ran exist too, and both tables have the same
    SELECT min(to_date(right(c.relname, 7), 'YYYY_MM')) INTO month
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit.audit_logs'::regclass;
    month := coalesce(month, this_month - interval '1 month');
    WHILE month <= this_month + interval '3 months' LOOP
        made := made + audit.make_partition('audit.audit_logs', month)::integer;
        PERFORM audit.make_partition('audit.document_events', month);
        month := month + interval '1 month';
    END LOOP;
    RETURN made;
END $$;
SELECT audit.make_partitions();

-- What is on the log already. As the owner, whom row-level security binds too.
CREATE POLICY owner_copies ON audit.audit_logs FOR SELECT TO cordon_owner USING (true);
CREATE POLICY owner_copies ON audit.document_events FOR INSERT TO cordon_owner WITH CHECK (true);
INSERT INTO audit.document_events (tenant_id, document_id, seq, event_id)
    SELECT DISTINCT l.tenant_id, d, l.seq, l.event_id FROM audit.audit_logs l CROSS JOIN LATERAL unnest(l.document_ids) d;
DROP POLICY owner_copies ON audit.audit_logs;
DROP POLICY owner_copies ON audit.document_events;

GRANT SELECT (event, leaf_hash) ON audit.audit_logs TO cordon_audit_definer;
GRANT CREATE ON SCHEMA authz TO cordon_authz_definer;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;

------------------------------------------------------------------------------------------------- tickets

SET LOCAL ROLE cordon_authz_definer;

-- Those of the tickets that authz.check() would accept, by one statement: a sixth of the price of one after the other.
-- Nothing of a ticket is read before its MAC is found good. Whoever is missing in the answer is to be checked alone.
CREATE FUNCTION authz.check_many(tickets text[])
RETURNS TABLE (ordinal integer, tenant_id uuid, user_id uuid, session_id uuid, job_id uuid, grant_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH good AS MATERIALIZED (
        SELECT x.ordinal, x.part[3] AS claims
            FROM (SELECT u.ordinal, string_to_array(u.ticket, '.') AS part FROM unnest(tickets) WITH ORDINALITY u (ticket, ordinal)
                  WHERE length(u.ticket) BETWEEN 70 AND 8192) x
            JOIN authz.ticket_keys k ON k.kid::text = x.part[2] AND (k.retired_at IS NULL OR k.retired_at > clock_timestamp() - interval '70 s')
            WHERE cardinality(x.part) = 4 AND x.part[1] = '1'
              AND sha256(convert_to(encode(ext.hmac(convert_to('1.' || x.part[2] || '.' || x.part[3], 'UTF8'), k.secret, 'sha256'), 'hex'), 'UTF8'))
                  = sha256(convert_to(x.part[4], 'UTF8')))
    SELECT g.ordinal::integer, c.tenant_id, c.user_id, c.session_id, c.job_id, c.grant_id
        FROM good g CROSS JOIN LATERAL jsonb_populate_record(NULL::authz.claims, convert_from(decode(g.claims, 'hex'), 'UTF8')::jsonb) c
        WHERE c.expires_at > clock_timestamp() AND c.expires_at <= clock_timestamp() + interval '70 s'
          AND c.user_id IS NOT NULL AND c.scopes IS NOT NULL AND array_position(c.scopes, NULL) IS NULL
          AND CASE c.kind
              WHEN 'user' THEN c.session_id IS NOT NULL AND num_nonnulls(c.job_id, c.document_id, c.fence, c.lease_hash) = 0
                  AND EXISTS (SELECT FROM auth.sessions s
                      JOIN auth.users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id
                      JOIN auth.tenants t ON t.id = s.tenant_id
                      WHERE s.tenant_id = coalesce(c.tenant_id, '00000000-0000-0000-0000-000000000000'::uuid)
                        AND s.id = c.session_id AND s.user_id = c.user_id
                        AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp()
                        AND u.status = 'active' AND t.status = 'active')
              WHEN 'job' THEN c.session_id IS NULL AND num_nulls(c.tenant_id, c.job_id, c.document_id, c.fence, c.lease_hash) = 0
                  AND EXISTS (SELECT FROM auth.tenants t WHERE t.id = c.tenant_id AND t.status = 'active')
                  AND jobs.lease_is_held(c, false)
              ELSE false END;
END $$;
GRANT EXECUTE ON FUNCTION authz.check_many(text[]) TO cordon_audit_definer;
RESET ROLE;

------------------------------------------------------------------------------------------------- what audit-writer may ask

SET LOCAL ROLE cordon_audit_definer;

ALTER FUNCTION audit.claims(text[]) RENAME TO claims_0010;
REVOKE EXECUTE ON FUNCTION audit.claims_0010(text[]) FROM cordon_audit;
ALTER FUNCTION audit.lock_heads(uuid[]) RENAME TO lock_heads_0006;
REVOKE EXECUTE ON FUNCTION audit.lock_heads_0006(uuid[]) FROM cordon_audit;
ALTER FUNCTION audit.advance_heads(uuid[], bigint[], bigint[], bytea[], bytea[], uuid[]) RENAME TO advance_heads_0006;
REVOKE EXECUTE ON FUNCTION audit.advance_heads_0006(uuid[], bigint[], bigint[], bytea[], bytea[], uuid[]) FROM cordon_audit;

-- As before. Those that are not plainly good are asked one by one, for the reason.
CREATE FUNCTION audit.claims(tickets text[])
RETURNS TABLE (ordinal integer, tenant_id uuid, user_id uuid, session_id uuid, job_id uuid, grant_id uuid, refused text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    found  integer;
BEGIN
    RETURN QUERY SELECT m.ordinal, coalesce(m.tenant_id, '00000000-0000-0000-0000-000000000000'::uuid), m.user_id, m.session_id, m.job_id,
                        m.grant_id, NULL::text FROM authz.check_many(tickets) m;
    GET DIAGNOSTICS found = ROW_COUNT;
    IF found < cardinality(tickets) THEN
        RETURN QUERY SELECT x.ordinal::integer, o.tenant_id, o.user_id, o.session_id, o.job_id, o.grant_id, o.refused
            FROM unnest(tickets) WITH ORDINALITY x (ticket, ordinal) CROSS JOIN LATERAL audit.claims_0010(ARRAY[x.ticket]) o
            WHERE NOT EXISTS (SELECT FROM authz.check_many(tickets) m WHERE m.ordinal = x.ordinal);
    END IF;
END $$;

-- As before; heads that are there already are not tried to be made.
CREATE FUNCTION audit.lock_heads(tenants uuid[])
RETURNS TABLE (tenant_id uuid, size bigint, range bytea, root bytea, locked_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM unnest(tenants) t WHERE NOT EXISTS (SELECT FROM audit.audit_heads h WHERE h.tenant_id = t);
    IF FOUND THEN
        INSERT INTO audit.audit_heads (tenant_id) SELECT DISTINCT t FROM unnest(tenants) t ORDER BY t ON CONFLICT DO NOTHING;
    END IF;
    PERFORM FROM audit.audit_heads h WHERE h.tenant_id = ANY (tenants) ORDER BY h.tenant_id FOR UPDATE;
    RETURN QUERY SELECT h.tenant_id, h.size, h.range, h.root, clock_timestamp() FROM audit.audit_heads h
        WHERE h.tenant_id = ANY (tenants) ORDER BY h.tenant_id;
END $$;

-- As before, for all heads at once: refuses when one is not where the caller thinks, or when its rows between the old
-- and the new size are not just those of event_ids, which are in order.
CREATE FUNCTION audit.advance_heads(tenants uuid[], old_sizes bigint[], new_sizes bigint[], ranges bytea[], roots bytea[], event_ids uuid[])
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    moved  integer;
BEGIN
    IF num_nulls(tenants, old_sizes, new_sizes, ranges, roots, event_ids) <> 0
       OR (cardinality(old_sizes), cardinality(new_sizes), cardinality(ranges), cardinality(roots))
           IS DISTINCT FROM (cardinality(tenants), cardinality(tenants), cardinality(tenants), cardinality(tenants)) THEN
        RAISE EXCEPTION 'audit: heads do not line up' USING ERRCODE = '22023';
    END IF;
    PERFORM FROM unnest(tenants, old_sizes, new_sizes) AS x (t, o, n) FULL JOIN (
            SELECT l.tenant_id, count(*) AS rows, count(DISTINCT l.seq) AS seqs, min(l.seq) AS first, max(l.seq) AS last FROM audit.audit_logs l
                WHERE l.event_id = ANY (event_ids) AND l.event_id BETWEEN event_ids[1] AND event_ids[cardinality(event_ids)]
                GROUP BY l.tenant_id) there ON there.tenant_id = x.t
        WHERE (there.rows = x.n - x.o AND there.seqs = x.n - x.o AND there.first = x.o AND there.last = x.n - 1) IS NOT TRUE;
    IF FOUND THEN
        RAISE EXCEPTION 'audit: gap in the sequence' USING ERRCODE = '40001';
    END IF;
    UPDATE audit.audit_heads h SET size = x.n, range = x.r, root = x.e, updated_at = clock_timestamp()
        FROM unnest(tenants, old_sizes, new_sizes, ranges, roots) AS x (t, o, n, r, e) WHERE h.tenant_id = x.t AND h.size = x.o;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(tenants) THEN
        RAISE EXCEPTION 'audit: the head has moved' USING ERRCODE = '40001';
    END IF;
END $$;

-- The rows of a batch and what finds them by document. It runs as its caller: the right to insert is cordon_audit's
-- own. Here for its plans, which a statement sent each time would make each time. document_ids are those of all rows,
-- one behind the other; row i has those from firsts[i] to lasts[i].
CREATE FUNCTION audit.append(event_ids uuid[], tenants uuid[], seqs bigint[], occurred timestamptz[], recorded timestamptz[], kinds text[],
                             actions text[], outcomes text[], actors uuid[], sessions uuid[], jobs uuid[], requests uuid[], resources uuid[],
                             firsts bigint[], lasts bigint[], tickets bytea[], contents bytea[], events bytea[], leaves bytea[], documents uuid[],
                             document_rows bigint[])
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, actor_id, session_id, job_id,
                                  request_id, resource_id, document_ids, ticket_digest, content_digest, event, leaf_hash)
        SELECT e, t, s, o, r, k, a, u, ac, se, jo, re, rs, documents[f:l], ti, co, b, h
            FROM (SELECT unnest(event_ids) AS e, unnest(tenants) AS t, unnest(seqs) AS s, unnest(occurred) AS o, unnest(recorded) AS r,
                         unnest(kinds) AS k, unnest(actions) AS a, unnest(outcomes) AS u, unnest(actors) AS ac, unnest(sessions) AS se,
                         unnest(jobs) AS jo, unnest(requests) AS re, unnest(resources) AS rs, unnest(firsts) AS f, unnest(lasts) AS l,
                         unnest(tickets) AS ti, unnest(contents) AS co, unnest(events) AS b, unnest(leaves) AS h) x;
    INSERT INTO audit.document_events (tenant_id, document_id, seq, event_id)
        SELECT DISTINCT tenants[i], d, seqs[i], event_ids[i] FROM (SELECT unnest(documents) AS d, unnest(document_rows) AS i) x;
END $$;

-- The arrays' lengths say nothing about the plan; planning anew each time took more than doing it.
ALTER FUNCTION audit.find_events(uuid[]) SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION audit.put_nodes(uuid[], bigint[], bigint[], bytea[]) SET plan_cache_mode = force_generic_plan;

-- For the check of the log against heads outside the database: hashes of what the rows hold now. They show nothing of it.
CREATE FUNCTION audit.leaves_now(p_tenant_id uuid, p_first bigint, p_count integer) RETURNS TABLE (seq bigint, leaf bytea, is_as_stored boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.seq, sha256('\x00'::bytea || l.event), l.leaf_hash = sha256('\x00'::bytea || l.event) FROM audit.audit_logs l
        WHERE l.tenant_id = p_tenant_id AND l.seq >= p_first AND l.seq < p_first + least(p_count, 4096) ORDER BY l.seq
$$;

-- Was this number signed for a state that a recovery has given up?
CREATE FUNCTION audit.is_given_up(p_number bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM audit.recoveries r WHERE p_number > r.last AND p_number <= r.anchored)
$$;
GRANT EXECUTE ON FUNCTION audit.leaves_now(uuid, bigint, integer), audit.is_given_up(bigint) TO cordon_audit;

GRANT EXECUTE ON FUNCTION audit.claims(text[]), audit.lock_heads(uuid[]), audit.advance_heads(uuid[], bigint[], bigint[], bytea[], bytea[], uuid[]),
    audit.append(uuid[], uuid[], bigint[], timestamptz[], timestamptz[], text[], text[], text[], uuid[], uuid[], uuid[], uuid[], uuid[], bigint[],
                 bigint[], bytea[], bytea[], bytea[], bytea[], uuid[], bigint[]) TO cordon_audit;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
REVOKE CREATE ON SCHEMA authz FROM cordon_authz_definer;
RESET ROLE;
