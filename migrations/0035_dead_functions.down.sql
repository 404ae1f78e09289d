-- As 0007, 0011, 0014 and 0023 left them.
SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

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

CREATE FUNCTION audit.put_nodes(tenants uuid[], levels bigint[], indexes bigint[], hashes bytea[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
    INSERT INTO audit.tree_nodes (tenant_id, level, index, hash)
        SELECT t, l::smallint, i, h FROM unnest(tenants, levels, indexes, hashes) AS x (t, l, i, h)
$$;

CREATE FUNCTION audit.on_user() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fields  jsonb;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM audit.record('user.create', NEW.tenant_id, NEW.id, '{}', '{}', NEW.id);
        RETURN NULL;
    END IF;
    fields := audit.changed(to_jsonb(OLD), to_jsonb(NEW), ARRAY['issuer', 'subject', 'display_name', 'email', 'status']);
    IF fields <> '[]' THEN
        PERFORM audit.record('user.update', NEW.tenant_id, NEW.id, '{}', jsonb_build_object('changed', fields, 'status', NEW.status), NEW.id);
    END IF;
    RETURN NULL;
END $$;
GRANT EXECUTE ON FUNCTION audit.on_user() TO cordon_owner;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
