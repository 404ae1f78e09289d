-- Derived copies follow (ADR 0023): conversations end with a document that any of their answers was made from, also when
-- it is only deleted; whichever way a conversation ends, the second share of its key is destroyed. And what there is to
-- say of erasures, rotations and the ends of tenants as a whole, for metrics.

SET LOCAL ROLE cordon_owner;

ALTER TABLE app.erasures DROP CONSTRAINT erasures_reason_code_check;
ALTER TABLE app.erasures ADD CONSTRAINT erasures_reason_code_check CHECK (reason_code IN
    ('patient_request', 'retention_over', 'wrong_upload', 'contract_end', 'court_order', 'document_deleted', 'conversation_deleted'));
CREATE INDEX erasures_open ON app.erasures (requested_at) WHERE done_at IS NULL;

GRANT SELECT (user_id) ON app.conversations TO cordon_keys_definer;
GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;

SET LOCAL ROLE cordon_jobs_definer;
-- Jobs of a kind that are not done, for functions of cordon_keys_definer.
CREATE FUNCTION jobs.undone(p_kind text) RETURNS TABLE (tenant_id uuid, id uuid, state text, created_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT j.tenant_id, j.id, j.state, j.created_at FROM jobs.jobs j WHERE j.kind = p_kind AND j.state IN ('queued', 'running', 'dead')
$$;
GRANT EXECUTE ON FUNCTION jobs.undone(text) TO cordon_keys_definer;
RESET ROLE;

SET LOCAL ROLE cordon_keys_definer;

-- Packages of evidence are documents of their own, made from others.
CREATE OR REPLACE FUNCTION keys.packages_of(p_tenant_id uuid, p_documents uuid[]) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT s.evidence_id FROM app.evidence_sources s WHERE s.tenant_id = p_tenant_id AND s.document_id = ANY (p_documents)
$$;

------------------------------------------------------------------------------------------------- conversations

DROP FUNCTION keys.erase_answers(uuid, uuid[]);

-- Every conversation with an answer made from the document, whole, for its later turns may repeat the earlier ones. Their
-- shares are items of the erasure.
CREATE FUNCTION keys.end_conversations(p_tenant_id uuid, p_document_id uuid, p_erasure_id uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO app.erasure_items (tenant_id, erasure_id, kind, id)
        SELECT DISTINCT p_tenant_id, p_erasure_id, 'conversation', a.conversation_id FROM app.answers a
        WHERE a.tenant_id = p_tenant_id AND a.document_ids && ARRAY[p_document_id] ON CONFLICT DO NOTHING;
    DELETE FROM app.conversations c WHERE c.tenant_id = p_tenant_id
        AND c.id IN (SELECT a.conversation_id FROM app.answers a WHERE a.tenant_id = p_tenant_id AND a.document_ids && ARRAY[p_document_id]);
$$;

-- An erasure of what was made from something that is gone: asked for by whoever the ticket names, or by nobody.
CREATE FUNCTION keys.add_erasure(p_tenant_id uuid, p_reason_code text, p_user_id uuid) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fresh  uuid := authz.uuid_v7();
    asks   uuid := coalesce((authz.current_claims()).user_id, p_user_id);
BEGIN
    INSERT INTO app.erasures (tenant_id, id, reason_code, reference, requested_by) VALUES (p_tenant_id, fresh, p_reason_code, '', asks);
    PERFORM jobs.enqueue_erasure(p_tenant_id, fresh, asks);
    RETURN fresh;
END $$;

-- A document that is deleted, by an erasure or only for its readers, takes the conversations with it.
CREATE FUNCTION keys.conversations_follow() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    under  uuid;
BEGIN
    IF EXISTS (SELECT FROM app.answers a WHERE a.tenant_id = NEW.tenant_id AND a.document_ids && ARRAY[NEW.id]) THEN
        SELECT i.erasure_id INTO under FROM app.erasure_items i WHERE i.tenant_id = NEW.tenant_id AND i.id = NEW.id;
        IF NOT FOUND THEN
            under := keys.add_erasure(NEW.tenant_id, 'document_deleted', NEW.created_by);
        END IF;
        PERFORM keys.end_conversations(NEW.tenant_id, NEW.id, under);
    END IF;
    RETURN NULL;
END $$;

-- One that its owner deletes is an erasure of its own: its rows are gone with this, its share is what is left to destroy.
CREATE FUNCTION keys.share_follows() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM app.erasure_items i WHERE i.tenant_id = OLD.tenant_id AND i.id = OLD.id) THEN
        INSERT INTO app.erasure_items (tenant_id, erasure_id, kind, id)
            VALUES (OLD.tenant_id, keys.add_erasure(OLD.tenant_id, 'conversation_deleted', OLD.user_id), 'conversation', OLD.id);
    END IF;
    RETURN NULL;
END $$;

-- An answer is not stored once one of the documents that it was made from is deleted. Its documents are locked, in order,
-- before anything else of it, so that whoever deletes one of them comes before this or finds the answer.
CREATE FUNCTION keys.answer_needs_documents() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM app.documents d WHERE d.tenant_id = NEW.tenant_id AND d.id = ANY (NEW.document_ids)
            AND d.status <> 'deleted' ORDER BY d.id FOR SHARE) l)
       <> (SELECT count(DISTINCT n) FROM unnest(NEW.document_ids) n) THEN
        RAISE EXCEPTION 'a document of the answer is deleted' USING ERRCODE = '23503';
    END IF;
    RETURN NEW;
END $$;
GRANT EXECUTE ON FUNCTION keys.conversations_follow(), keys.share_follows(), keys.answer_needs_documents() TO cordon_owner;

-- As before. Conversations went when the document was deleted, unless that was before this migration.
CREATE OR REPLACE FUNCTION keys.erase_rows(own app.erasures, p_document_id uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counts  jsonb;
BEGIN
    PERFORM FROM app.documents d WHERE d.tenant_id = own.tenant_id AND d.id = p_document_id FOR UPDATE;
    PERFORM keys.end_conversations(own.tenant_id, p_document_id, own.id);
    counts := jsonb_build_object('chunks', (SELECT count(*) FROM app.chunks k WHERE k.tenant_id = own.tenant_id AND k.document_id = p_document_id),
        'jobs', jobs.forget_document(own.tenant_id, p_document_id));
    DELETE FROM app.documents d WHERE d.tenant_id = own.tenant_id AND d.id = p_document_id;
    RETURN counts;
END $$;

------------------------------------------------------------------------------------------------- in numbers

-- What is under way and what has stopped, over all tenants. stopped: somebody must start it again.
CREATE FUNCTION keys.work_states() RETURNS TABLE (kind text, pending bigint, stopped bigint, oldest_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.kind, count(*) FILTER (WHERE w.runs), count(*) FILTER (WHERE NOT w.runs),
           coalesce(greatest(0, (extract(epoch FROM clock_timestamp() - min(w.since)) * 1000)::bigint), 0)
    FROM (SELECT 'erasure' AS kind, coalesce(j.state IN ('queued', 'running'), false) AS runs, e.requested_at AS since
              FROM app.erasures e LEFT JOIN jobs.undone('erase') j ON j.tenant_id = e.tenant_id AND j.id = e.id WHERE e.done_at IS NULL
          UNION ALL SELECT 'rotation', j.state <> 'dead', j.created_at FROM jobs.undone('rewrap') j
          UNION ALL SELECT 'offboarding', true, o.created_at FROM auth.offboardings o WHERE o.state IN ('intended', 'cancel_intended')) w
    GROUP BY w.kind
$$;

-- Of the data keys that active tenants seal under: the age of the oldest, and how many are older than p_days.
CREATE FUNCTION keys.key_ages(p_days integer, OUT due bigint, OUT oldest_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FILTER (WHERE n.made < clock_timestamp() - p_days * interval '1 day'),
           coalesce((extract(epoch FROM clock_timestamp() - min(n.made)) * 1000)::bigint, 0)
    FROM (SELECT max(k.created_at) AS made FROM keys.tenant_keys k JOIN auth.tenants t ON t.id = k.tenant_id AND t.status = 'active'
          WHERE k.kind = 'data' GROUP BY k.tenant_id) n
$$;
GRANT EXECUTE ON FUNCTION keys.work_states(), keys.key_ages(integer) TO cordon_jobs;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA jobs FROM cordon_jobs_definer;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
CREATE TRIGGER conversations_follow AFTER UPDATE OF status ON app.documents FOR EACH ROW
    WHEN (NEW.status = 'deleted' AND OLD.status <> 'deleted') EXECUTE FUNCTION keys.conversations_follow();
CREATE TRIGGER share_follows AFTER DELETE ON app.conversations FOR EACH ROW EXECUTE FUNCTION keys.share_follows();
CREATE TRIGGER needs_documents BEFORE INSERT ON app.answers FOR EACH ROW EXECUTE FUNCTION keys.answer_needs_documents();
ALTER TABLE app.documents ENABLE ALWAYS TRIGGER conversations_follow;
ALTER TABLE app.conversations ENABLE ALWAYS TRIGGER share_follows;
ALTER TABLE app.answers ENABLE ALWAYS TRIGGER needs_documents;
RESET ROLE;
