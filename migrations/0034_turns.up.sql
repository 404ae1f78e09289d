-- Batches beside each other: audit.put() inserts the rows first and moves the heads last, so that the next batch of a writer
-- can insert its own while this one waits for the disk. What it does, and who may, is as it was (0023).

SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

DROP FUNCTION audit.put(uuid[], bigint[], bytea[], bigint[], bytea[], bytea[], uuid[], bigint[], bigint[], bytea[], timestamptz, uuid[],
    timestamptz[], text[], text[], text[], uuid[], uuid[], uuid[], uuid[], uuid[], bigint[], bigint[], bytea[], bytea[], bytea[], bytea[], uuid[],
    bigint[]);

-- As in 0023. own_turn: a number that the caller gives this batch, after_turn: that of the batch on whose heads it was placed.
-- Turns only say for whom to wait; whoever lies about them finds the head moved. Two that wait for each other, by an event
-- id that both have, wait a quarter of a second.
CREATE FUNCTION audit.put(tenants uuid[], old_sizes bigint[], old_roots bytea[], new_sizes bigint[], ranges bytea[], roots bytea[],
                          node_tenants uuid[], node_levels bigint[], node_indexes bigint[], node_hashes bytea[], recorded timestamptz,
                          event_ids uuid[], occurred timestamptz[], kinds text[], actions text[], outcomes text[], actors uuid[], sessions uuid[],
                          jobs uuid[], requests uuid[], resources uuid[], firsts bigint[], lasts bigint[], tickets bytea[], contents bytea[],
                          events bytea[], leaves bytea[], documents uuid[], document_rows bigint[], own_turn integer DEFAULT NULL, after_turn integer DEFAULT NULL)
RETURNS timestamptz LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET lock_timeout = '250ms' AS $$
DECLARE
    heads        integer := cardinality(tenants);
    moved        integer;
    looks        integer := 0;
    turns        CONSTANT integer := 1953854062;      -- 'turn': no other lock begins with it
    row_tenants  uuid[];
    row_seqs     bigint[];
BEGIN
    IF (recorded BETWEEN clock_timestamp() - interval '5 s' AND clock_timestamp()) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: that is not the time' USING ERRCODE = '40001';
    END IF;
    IF own_turn IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(turns, own_turn);
    END IF;
    IF heads = 1 THEN       -- as nearly always; a join would take longer than all else that is done here
        row_seqs := ARRAY(SELECT generate_series(old_sizes[1], new_sizes[1] - 1));
        row_tenants := array_fill(tenants[1], ARRAY[cardinality(row_seqs)]);
    ELSE
        SELECT array_agg(x.t ORDER BY x.i, s), array_agg(s ORDER BY x.i, s) INTO row_tenants, row_seqs
            FROM unnest(tenants, old_sizes, new_sizes) WITH ORDINALITY AS x (t, o, n, i) CROSS JOIN LATERAL generate_series(x.o, x.n - 1) AS s;
    END IF;
    IF (cardinality(event_ids) = cardinality(row_seqs)) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: gap in the sequence' USING ERRCODE = '22023';
    END IF;
    INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, actor_id, session_id, job_id,
                                  request_id, resource_id, document_ids, ticket_digest, content_digest, event, leaf_hash)
        SELECT e, t, s, o, recorded, k, a, u, ac, se, jo, re, rs, documents[f:l], ti, co, b, h
            FROM (SELECT unnest(event_ids) AS e, unnest(row_tenants) AS t, unnest(row_seqs) AS s, unnest(occurred) AS o,
                         unnest(kinds) AS k, unnest(actions) AS a, unnest(outcomes) AS u, unnest(actors) AS ac, unnest(sessions) AS se,
                         unnest(jobs) AS jo, unnest(requests) AS re, unnest(resources) AS rs, unnest(firsts) AS f, unnest(lasts) AS l,
                         unnest(tickets) AS ti, unnest(contents) AS co, unnest(events) AS b, unnest(leaves) AS h) x;
    IF cardinality(document_rows) > 0 THEN
        INSERT INTO audit.document_events (tenant_id, document_id, seq, event_id)
            SELECT row_tenants[i], d, row_seqs[i], event_ids[i] FROM (SELECT unnest(documents) AS d, unnest(document_rows) AS i) x WHERE i IS NOT NULL;
    END IF;
    IF cardinality(node_tenants) > 0 THEN
        INSERT INTO audit.tree_nodes (tenant_id, level, index, hash)
            SELECT t, l::smallint, i, h FROM unnest(node_tenants, node_levels, node_indexes, node_hashes) AS x (t, l, i, h);
    END IF;
    LOOP
        IF after_turn IS NOT NULL THEN      -- whoever is before us moves the heads to where we begin, and has them until it commits
            PERFORM pg_advisory_lock_shared(turns, after_turn), pg_advisory_unlock_shared(turns, after_turn);
        END IF;
        IF heads = 1 THEN
            UPDATE audit.audit_heads h SET size = new_sizes[1], range = ranges[1], root = roots[1], updated_at = recorded
                WHERE h.tenant_id = tenants[1] AND h.size = old_sizes[1] AND h.root = old_roots[1];
            GET DIAGNOSTICS moved = ROW_COUNT;
        ELSE
            SELECT count(*) INTO moved FROM unnest(tenants, old_sizes, old_roots) AS x (t, o, p)
                JOIN audit.audit_heads h ON h.tenant_id = x.t AND h.size = x.o AND h.root = x.p;
        END IF;
        EXIT WHEN moved = heads OR after_turn IS NULL OR looks = 20;
        looks := looks + 1;     -- it has not begun, though it was sent before us; no head is locked meanwhile
        PERFORM pg_sleep(0.0005);
    END LOOP;
    IF heads > 1 AND moved = heads THEN
        PERFORM FROM audit.audit_heads h WHERE h.tenant_id = ANY (tenants) ORDER BY h.tenant_id FOR UPDATE;
        UPDATE audit.audit_heads h SET size = x.n, range = x.g, root = x.r, updated_at = recorded
            FROM unnest(tenants, old_sizes, old_roots, new_sizes, ranges, roots) AS x (t, o, p, n, g, r)
            WHERE h.tenant_id = x.t AND h.size = x.o AND h.root = x.p;
        GET DIAGNOSTICS moved = ROW_COUNT;
    END IF;
    IF (moved = heads AND heads > 0) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit: the head has moved' USING ERRCODE = '40001';
    END IF;
    RETURN clock_timestamp();
END $$;
GRANT EXECUTE ON FUNCTION audit.put(uuid[], bigint[], bytea[], bigint[], bytea[], bytea[], uuid[], bigint[], bigint[], bytea[], timestamptz, uuid[],
    timestamptz[], text[], text[], text[], uuid[], uuid[], uuid[], uuid[], uuid[], bigint[], bigint[], bytea[], bytea[], bytea[], bytea[], uuid[],
    bigint[], integer, integer) TO cordon_audit;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
