-- Ends of tenants beside each other: one that cannot go on is put off for a time that doubles, and the others go on. With the
-- last of its rows go the tenant's vector set and the partition that its vectors had.

SET LOCAL ROLE cordon_owner;

ALTER TABLE auth.offboardings
    ADD COLUMN next_at       timestamptz NOT NULL DEFAULT now(),        -- not before; those that are due, in this order
    ADD COLUMN refusals      integer NOT NULL DEFAULT 0,                -- in a row
    ADD COLUMN refused_code  text CHECK (length(refused_code) <= 32);   -- the last of them, as clients have codes
GRANT DELETE ON app.vector_sets TO cordon_keys_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;

-- Empty, or nobody's any more; for functions of cordon_keys_definer. Who waits for its lock stops all who come after.
CREATE FUNCTION app.drop_vector_partition(p_tenant_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    EXECUTE format('DROP TABLE IF EXISTS app.%I', 'text_vectors_' || replace(p_tenant_id::text, '-', ''));
END $$;
GRANT EXECUTE ON FUNCTION app.drop_vector_partition(uuid) TO cordon_keys_definer;
RESET ROLE;

SET LOCAL ROLE cordon_keys_definer;

-- A tenant that ends, and what has happened: the one that is due for longest.
CREATE OR REPLACE FUNCTION keys.ending_next() RETURNS TABLE (offboarding_id uuid, tenant_id uuid, state text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.id, o.tenant_id, o.state FROM auth.offboardings o
        WHERE o.state IN ('key_destroyed', 'shares_destroyed', 'objects_destroyed') AND o.next_at <= clock_timestamp() ORDER BY o.next_at, o.id LIMIT 1
$$;

-- As before; what was destroyed shows that the store gives way, and the others have their turn.
CREATE OR REPLACE FUNCTION keys.ending_step(p_offboarding_id uuid, from_state text, destroyed bigint, is_all boolean) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.offboardings o SET shares = o.shares + CASE from_state WHEN 'key_destroyed' THEN destroyed ELSE 0 END,
        objects = o.objects + CASE from_state WHEN 'shares_destroyed' THEN destroyed ELSE 0 END,
        state = CASE WHEN NOT is_all THEN o.state WHEN from_state = 'key_destroyed' THEN 'shares_destroyed' ELSE 'objects_destroyed' END,
        refusals = CASE WHEN is_all OR destroyed > 0 THEN 0 ELSE o.refusals END, refused_code = CASE WHEN NOT is_all AND destroyed = 0 THEN o.refused_code END,
        next_at = CASE WHEN destroyed > 0 THEN clock_timestamp() ELSE o.next_at END
        WHERE o.id = p_offboarding_id AND o.state = from_state AND from_state IN ('key_destroyed', 'shares_destroyed')
$$;

-- This one cannot go on: again in a minute, then two, up to an hour. For how long, and how often that was in a row.
CREATE FUNCTION keys.ending_put_off(p_offboarding_id uuid, p_code text) RETURNS TABLE (refusals integer, wait_s integer)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.offboardings o SET refusals = o.refusals + 1, refused_code = left(p_code, 32),
        next_at = clock_timestamp() + least(60 * 2 ^ least(o.refusals, 6), 3600) * interval '1 s'
        WHERE o.id = p_offboarding_id AND o.state IN ('key_destroyed', 'shares_destroyed', 'objects_destroyed')
        RETURNING o.refusals, least(60 * 2 ^ least(o.refusals - 1, 6), 3600)::integer
$$;

-- As before; and when there are none left, what said where the tenant's vectors were.
CREATE OR REPLACE FUNCTION keys.ending_rows(p_offboarding_id uuid, n integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own     auth.offboardings;
    ids     uuid[];
    counts  jsonb;
BEGIN
    SELECT o.* INTO own FROM auth.offboardings o WHERE o.id = p_offboarding_id AND o.state = 'objects_destroyed' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    ids := ARRAY(SELECT d.id FROM app.documents d WHERE d.tenant_id = own.tenant_id LIMIT ending_rows.n);
    IF cardinality(ids) > 0 THEN
        counts := jsonb_build_object('documents', cardinality(ids), 'chunks',
            (SELECT count(*) FROM app.chunks k WHERE k.tenant_id = own.tenant_id AND k.document_id = ANY (ids)));
        DELETE FROM app.documents d WHERE d.tenant_id = own.tenant_id AND d.id = ANY (ids);
    ELSE
        ids := ARRAY(SELECT c.id FROM app.conversations c WHERE c.tenant_id = own.tenant_id LIMIT ending_rows.n);
        IF cardinality(ids) > 0 THEN
            counts := jsonb_build_object('conversations', cardinality(ids), 'answers',
                (SELECT count(*) FROM app.answers a WHERE a.tenant_id = own.tenant_id AND a.conversation_id = ANY (ids)));
            DELETE FROM app.conversations c WHERE c.tenant_id = own.tenant_id AND c.id = ANY (ids);
        ELSE
            ids := ARRAY(SELECT s.id FROM app.subjects s WHERE s.tenant_id = own.tenant_id LIMIT ending_rows.n);
            counts := jsonb_build_object('patients', cardinality(ids));
            DELETE FROM app.subjects s WHERE s.tenant_id = own.tenant_id AND s.id = ANY (ids);
        END IF;
    END IF;
    IF cardinality(ids) = 0 THEN        -- vectors went with the last chunks of their texts
        DELETE FROM app.vector_sets v WHERE v.tenant_id = own.tenant_id;
        PERFORM app.drop_vector_partition(own.tenant_id);
    END IF;
    UPDATE auth.offboardings o SET rows = o.rows || (SELECT jsonb_object_agg(k, coalesce((o.rows ->> k)::bigint, 0) + v::bigint)
        FROM jsonb_each_text(counts) c (k, v)), next_at = clock_timestamp(), refusals = 0, refused_code = NULL WHERE o.id = own.id;
    RETURN cardinality(ids) > 0;
END $$;

-- As before; an end that was put off has stopped until what refuses gives way.
CREATE OR REPLACE FUNCTION keys.work_states() RETURNS TABLE (kind text, pending bigint, stopped bigint, oldest_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.kind, count(*) FILTER (WHERE w.runs), count(*) FILTER (WHERE NOT w.runs),
           coalesce(greatest(0, (extract(epoch FROM clock_timestamp() - min(w.since)) * 1000)::bigint), 0)
    FROM (SELECT 'erasure' AS kind, coalesce(j.state IN ('queued', 'running'), false) AS runs, e.requested_at AS since
              FROM app.erasures e LEFT JOIN jobs.undone('erase') j ON j.tenant_id = e.tenant_id AND j.id = e.id WHERE e.done_at IS NULL
          UNION ALL SELECT 'rotation', j.state <> 'dead', j.created_at FROM jobs.undone('rewrap') j
          UNION ALL SELECT 'offboarding', o.refused_code IS NULL, CASE o.state WHEN 'scheduled' THEN o.delete_at + interval '2 days' ELSE o.changed_at END
              FROM auth.offboardings o WHERE o.state IN ('intended', 'cancel_intended', 'key_destroyed', 'shares_destroyed', 'objects_destroyed')
                  OR (o.state = 'scheduled' AND o.delete_at + interval '2 days' < clock_timestamp())) w
    GROUP BY w.kind
$$;

-- As before, and what an end waits for.
DROP FUNCTION keys.show_offboarding(text);
CREATE FUNCTION keys.show_offboarding(p_slug text) RETURNS TABLE (status text, state text, approvals bigint, delete_at timestamptz, certificate text,
    refused_code text, next_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.status, o.state, o.approvals, o.delete_at, o.certificate, r.refused_code, r.next_at
        FROM auth.tenants t CROSS JOIN LATERAL keys.offboarding_of(t.id) o JOIN auth.offboardings r ON r.id = o.id WHERE t.slug = p_slug
$$;

GRANT EXECUTE ON FUNCTION keys.ending_put_off(uuid, text) TO cordon_jobs;
GRANT EXECUTE ON FUNCTION keys.show_offboarding(text) TO cordon_owner;
RESET ROLE;

SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
RESET ROLE;
