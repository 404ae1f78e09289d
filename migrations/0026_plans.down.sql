ALTER FUNCTION audit.refuse_loss() RESET plan_cache_mode;
ALTER FUNCTION audit.on_question() RESET plan_cache_mode;
ALTER FUNCTION keys.open(uuid) RESET plan_cache_mode;
ALTER FUNCTION keys.open_conversation(uuid) RESET plan_cache_mode;

CREATE OR REPLACE FUNCTION authz.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT encode(set_byte(
        overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        6, (get_byte(uuid_send(gen_random_uuid()), 0) & 15) | 112), 'hex')::uuid
$$;

CREATE OR REPLACE FUNCTION audit.code(t text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(regexp_replace(t, '[^!-~]', '_', 'g'), 128)
$$;

CREATE OR REPLACE FUNCTION audit.drain(n integer)
RETURNS TABLE (event_id uuid, tenant_id uuid, occurred_at timestamptz, action text, actor_id uuid, session_id uuid, job_id uuid,
               request_id uuid, resource_id uuid, document_ids text[], detail text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH taken AS (
        DELETE FROM audit.audit_outbox o WHERE o.id = ANY (ARRAY(
            SELECT p.id FROM audit.audit_outbox p ORDER BY p.id LIMIT least(greatest(n, 0), 1000) FOR UPDATE SKIP LOCKED))
        RETURNING o.*)
    SELECT t.event_id, t.tenant_id, t.occurred_at, t.action, t.actor_id, t.session_id, t.job_id,
           t.request_id, t.resource_id, t.document_ids::text[], t.detail::text
        FROM taken t ORDER BY t.id
$$;
