-- Of archived events too the columns beside their bytes are compared with these: the bytes come from the bucket, from whoever
-- has just read them there and compared them with the leaf hashes.

SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

-- Are these the columns of a row with this event, version 1 (docs/AUDIT_FORMAT.md)? The event is put together from them, but
-- for chunks and detail, which are in no column, and compared; then what was said of it, without what was stamped, gives the
-- digest. content_digest NULL, of an archived event, whose ticket's digest was not kept: what stands between is just what is in
-- no column. No damage is an error.
CREATE OR REPLACE FUNCTION audit.row_is_event(event bytea, event_id uuid, tenant_id uuid, seq bigint, occurred_at timestamptz, recorded_at timestamptz,
    kind text, action text, outcome text, actor_id uuid, session_id uuid, job_id uuid, request_id uuid, resource_id uuid, document_ids uuid[],
    ticket_digest bytea, content_digest bytea) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    form      text := 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"';
    tail      text := encode(substr(event, greatest(1, length(event) - 1000)), 'escape');
    back      text := reverse(left(tail, -1));
    -- members behind the last list and object: flat, and nothing in them is escaped
    flat      text := right(tail, least(nullif(strpos(back, ']'), 0), nullif(strpos(back, '}'), 0), nullif(strpos(back, '{'), 0)));
    grant_id  text := nullif(split_part(split_part(flat, '"grant_id":"', 2), '"', 1), '');
    reporter  text := split_part(split_part(flat, '"reported_by":"', 2), '"', 1);
    head      text := '{"action":"' || action || '"';
    named     text := coalesce(',"document_ids":["' || array_to_string(nullif(document_ids, '{}'), '","') || '"]', '') || ',"event_id":"' || event_id || '"';
    reported  text := ',"reported_by":"' || reporter || '"' || coalesce(',"request_id":"' || request_id || '"', '')
                      || coalesce(',"resource_id":"' || resource_id || '"', '');
    first     bytea := convert_to(head || coalesce(',"actor_id":"' || actor_id || '"', ''), 'UTF8');
    last      bytea := convert_to(named || coalesce(',"grant_id":"' || grant_id || '"', '') || coalesce(',"job_id":"' || job_id || '"', '')
                      || ',"kind":"' || kind || '","occurred_at":"' || to_char(timezone('UTC', occurred_at), form) || '","outcome":"' || outcome
                      || '","recorded_at":"' || to_char(timezone('UTC', recorded_at), form) || '"' || reported || ',"seq":' || seq
                      || coalesce(',"session_id":"' || session_id || '"', '') || ',"tenant_id":"' || tenant_id || '","v":1}', 'UTF8');
    between   integer := length(event) - length(first) - length(last);
BEGIN
    IF (between >= 0 AND substr(event, 1, length(first)) = first AND substr(event, length(first) + between + 1) = last) IS NOT TRUE THEN
        RETURN false;
    END IF;
    IF content_digest IS NULL THEN
        BEGIN
            RETURN NOT EXISTS (SELECT FROM json_object_keys(('{' || substr(convert_from(substr(event, length(first) + 1, between), 'UTF8'), 2) || '}')::json) k
                               WHERE k NOT IN ('chunk_ids', 'detail'));
        EXCEPTION WHEN data_exception THEN
            RETURN false;
        END;
    END IF;
    RETURN (content_digest = sha256(coalesce(ticket_digest, decode(repeat('00', 32), 'hex')) || convert_to(head, 'UTF8') || substr(event, length(first) + 1, between)
            || convert_to(named || ',"kind":"' || kind || '","outcome":"' || outcome || '"' || reported || ',"v":1}', 'UTF8'))) IS TRUE;
END $$;

-- As before.
CREATE OR REPLACE FUNCTION audit.leaves_now(p_tenant_id uuid, p_first bigint, p_count integer) RETURNS TABLE (seq bigint, leaf bytea, is_as_stored boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.seq, coalesce(h.now, l.leaf_hash), CASE WHEN l.event IS NOT NULL THEN l.leaf_hash = h.now
                AND audit.row_is_event(l.event, l.event_id, l.tenant_id, l.seq, l.occurred_at, l.recorded_at, l.kind, l.action, l.outcome, l.actor_id,
                                       l.session_id, l.job_id, l.request_id, l.resource_id, l.document_ids, l.ticket_digest, coalesce(l.content_digest, ''))
                AND NOT EXISTS (SELECT FROM unnest(l.document_ids) d WHERE NOT EXISTS (SELECT FROM audit.document_events e
                                    WHERE e.tenant_id = l.tenant_id AND e.document_id = d AND e.seq = l.seq AND e.event_id = l.event_id))
            ELSE EXISTS (SELECT FROM audit.archives a WHERE a.tenant_id = l.tenant_id AND a.month = audit.month_of(l.event_id) AND a.first = l.archive_first) END
        FROM audit.audit_logs l CROSS JOIN LATERAL (SELECT sha256('\x00'::bytea || l.event) AS now) h
        WHERE l.tenant_id = p_tenant_id AND l.seq >= p_first AND l.seq < p_first + least(p_count, 4096) ORDER BY l.seq
$$;

-- The first event of the object whose row is not that of the event's bytes, or that the index of documents does not find; NULL: none.
CREATE FUNCTION audit.archive_differs(p_month date, p_tenant_id uuid, p_first bigint, p_last bigint, p_object bytea) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT min(l.seq) FROM audit.audit_logs l CROSS JOIN LATERAL (SELECT substr(p_object, l.archive_offset::integer + 1, l.archive_bytes) AS event) o
        WHERE l.tenant_id = p_tenant_id AND l.seq BETWEEN p_first AND p_last AND l.archive_first = p_first
          AND l.event_id >= audit.month_floor(p_month) AND l.event_id < audit.month_floor((p_month + interval '1 month')::date)
          AND (audit.row_is_event(o.event, l.event_id, l.tenant_id, l.seq, l.occurred_at, l.recorded_at, l.kind, l.action, l.outcome, l.actor_id, l.session_id,
                                  l.job_id, l.request_id, l.resource_id, l.document_ids, NULL, NULL)
               AND NOT EXISTS (SELECT FROM unnest(l.document_ids) d WHERE NOT EXISTS (SELECT FROM audit.document_events e
                                   WHERE e.tenant_id = l.tenant_id AND e.document_id = d AND e.seq = l.seq AND e.event_id = l.event_id))) IS NOT TRUE
$$;
GRANT EXECUTE ON FUNCTION audit.archive_differs(date, uuid, bigint, bigint, bytea) TO cordon_audit;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
