SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;

SET LOCAL ROLE cordon_keys_definer;
CREATE OR REPLACE FUNCTION keys.ending_next() RETURNS TABLE (offboarding_id uuid, tenant_id uuid, state text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.id, o.tenant_id, o.state FROM auth.offboardings o
        WHERE o.state IN ('key_destroyed', 'shares_destroyed', 'objects_destroyed') ORDER BY random() LIMIT 1
$$;

CREATE OR REPLACE FUNCTION keys.ending_step(p_offboarding_id uuid, from_state text, destroyed bigint, is_all boolean) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.offboardings o SET shares = o.shares + CASE from_state WHEN 'key_destroyed' THEN destroyed ELSE 0 END,
        objects = o.objects + CASE from_state WHEN 'shares_destroyed' THEN destroyed ELSE 0 END,
        state = CASE WHEN NOT is_all THEN o.state WHEN from_state = 'key_destroyed' THEN 'shares_destroyed' ELSE 'objects_destroyed' END
        WHERE o.id = p_offboarding_id AND o.state = from_state AND from_state IN ('key_destroyed', 'shares_destroyed')
$$;

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
    UPDATE auth.offboardings o SET rows = o.rows || (SELECT jsonb_object_agg(k, coalesce((o.rows ->> k)::bigint, 0) + v::bigint)
        FROM jsonb_each_text(counts) c (k, v)) WHERE o.id = own.id;
    RETURN cardinality(ids) > 0;
END $$;

CREATE OR REPLACE FUNCTION keys.work_states() RETURNS TABLE (kind text, pending bigint, stopped bigint, oldest_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.kind, count(*) FILTER (WHERE w.runs), count(*) FILTER (WHERE NOT w.runs),
           coalesce(greatest(0, (extract(epoch FROM clock_timestamp() - min(w.since)) * 1000)::bigint), 0)
    FROM (SELECT 'erasure' AS kind, coalesce(j.state IN ('queued', 'running'), false) AS runs, e.requested_at AS since
              FROM app.erasures e LEFT JOIN jobs.undone('erase') j ON j.tenant_id = e.tenant_id AND j.id = e.id WHERE e.done_at IS NULL
          UNION ALL SELECT 'rotation', j.state <> 'dead', j.created_at FROM jobs.undone('rewrap') j
          UNION ALL SELECT 'offboarding', true, CASE o.state WHEN 'scheduled' THEN o.delete_at + interval '2 days' ELSE o.changed_at END
              FROM auth.offboardings o WHERE o.state IN ('intended', 'cancel_intended', 'key_destroyed', 'shares_destroyed', 'objects_destroyed')
                  OR (o.state = 'scheduled' AND o.delete_at + interval '2 days' < clock_timestamp())) w
    GROUP BY w.kind
$$;

DROP FUNCTION keys.show_offboarding(text);
CREATE FUNCTION keys.show_offboarding(p_slug text) RETURNS TABLE (status text, state text, approvals bigint, changed_at timestamptz,
    delete_at timestamptz, certificate text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.status, o.state, o.approvals, o.changed_at, o.delete_at, o.certificate FROM auth.tenants t, keys.offboarding_of(t.id) o WHERE t.slug = p_slug
$$;
GRANT EXECUTE ON FUNCTION keys.show_offboarding(text) TO cordon_owner;
DROP FUNCTION keys.ending_put_off(uuid, text);
RESET ROLE;

SET LOCAL ROLE cordon_owner;
DROP FUNCTION app.drop_vector_partition(uuid);
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
REVOKE DELETE ON app.vector_sets FROM cordon_keys_definer;
ALTER TABLE auth.offboardings DROP COLUMN next_at, DROP COLUMN refusals, DROP COLUMN refused_code;
RESET ROLE;
