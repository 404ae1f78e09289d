-- Plans that are kept. A function that looks into a table of many partitions was planned anew at each call, because a plan
-- for known values costs less than one for any: seven times of what the look took. A function in SQL is planned at each
-- call in any case. What they do and who may call them is as it was.

SET LOCAL ROLE cordon_owner;

CREATE OR REPLACE FUNCTION authz.uuid_v7() RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN encode(set_byte(
        overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        6, (get_byte(uuid_send(gen_random_uuid()), 0) & 15) | 112), 'hex')::uuid;
END $$;

GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;

SET LOCAL ROLE cordon_audit_definer;

ALTER FUNCTION audit.refuse_loss() SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION audit.on_question() SET plan_cache_mode = force_generic_plan;

CREATE OR REPLACE FUNCTION audit.drain(n integer)
RETURNS TABLE (event_id uuid, tenant_id uuid, occurred_at timestamptz, action text, actor_id uuid, session_id uuid, job_id uuid,
               request_id uuid, resource_id uuid, document_ids text[], detail text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH taken AS (
        DELETE FROM audit.audit_outbox o WHERE o.id = ANY (ARRAY(
            SELECT p.id FROM audit.audit_outbox p ORDER BY p.id LIMIT least(greatest(n, 0), 1000) FOR UPDATE SKIP LOCKED))
        RETURNING o.*)
    SELECT t.event_id, t.tenant_id, t.occurred_at, t.action, t.actor_id, t.session_id, t.job_id,
           t.request_id, t.resource_id, t.document_ids::text[], t.detail::text
        FROM taken t ORDER BY t.id;
END $$;

CREATE OR REPLACE FUNCTION audit.code(t text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN left(regexp_replace(t, '[^!-~]', '_', 'g'), 128);
END $$;

RESET ROLE;

SET LOCAL ROLE cordon_keys_definer;
ALTER FUNCTION keys.open(uuid) SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION keys.open_conversation(uuid) SET plan_cache_mode = force_generic_plan;
RESET ROLE;

SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
RESET ROLE;
