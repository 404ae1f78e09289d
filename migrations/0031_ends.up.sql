-- The end of a tenant, to its end (ADR 0023). When KMS has deleted the key, the operator's program says so; then ingest-worker
-- destroys what is left of the tenant, step by step as in an erasure, and the last step makes the certificate.

SET LOCAL ROLE cordon_owner;

ALTER TABLE auth.tenants DROP CONSTRAINT tenants_status_check;
ALTER TABLE auth.tenants ADD CONSTRAINT tenants_status_check CHECK (status IN ('active', 'suspended', 'destroyed'));
ALTER TABLE auth.offboardings DROP CONSTRAINT offboardings_state_check;
ALTER TABLE auth.offboardings
    ADD CONSTRAINT offboardings_state_check CHECK (state IN ('requested', 'intended', 'scheduled', 'cancel_intended', 'cancelled',
        'key_destroyed', 'shares_destroyed', 'objects_destroyed', 'destroyed')),
    ADD COLUMN changed_at   timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN key_gone_at  timestamptz,                        -- when KMS was seen to know the key no more
    ADD COLUMN shares       bigint NOT NULL DEFAULT 0,          -- destroyed, as those that did it counted; one that died may have more
    ADD COLUMN objects      bigint NOT NULL DEFAULT 0,          -- versions and delete markers
    ADD COLUMN rows         jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN certificate  text CHECK (length(certificate) <= 1048576),    -- JSON; its SHA-256 is in the event tenant.destroy
    ADD CONSTRAINT offboardings_certificate CHECK ((state = 'destroyed') = (certificate IS NOT NULL));

-- Forwards only, and each state once.
CREATE FUNCTION auth.check_offboarding_move() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.state <> OLD.state THEN
        IF ((OLD.state, NEW.state) IN (('requested', 'intended'), ('intended', 'scheduled'), ('requested', 'cancel_intended'),
                ('intended', 'cancel_intended'), ('scheduled', 'cancel_intended'), ('cancel_intended', 'cancelled'),
                ('scheduled', 'key_destroyed'), ('cancel_intended', 'key_destroyed'), ('key_destroyed', 'shares_destroyed'),
                ('shares_destroyed', 'objects_destroyed'), ('objects_destroyed', 'destroyed'))) IS NOT TRUE THEN
            RAISE EXCEPTION 'the end of a tenant: % cannot become %', OLD.state, NEW.state USING ERRCODE = '23514';
        END IF;
        NEW.changed_at := clock_timestamp();
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_move BEFORE UPDATE ON auth.offboardings FOR EACH ROW EXECUTE FUNCTION auth.check_offboarding_move();
ALTER TABLE auth.offboardings ENABLE ALWAYS TRIGGER check_move;

GRANT UPDATE (reason_enc) ON auth.break_glass TO cordon_authz_definer;
GRANT INSERT ON jobs.schedules TO cordon_jobs_definer;
GRANT CREATE ON SCHEMA authz TO cordon_authz_definer;
GRANT CREATE ON SCHEMA jobs TO cordon_jobs_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;

------------------------------------------------------------------------------------------------- what other areas hold of a tenant

SET LOCAL ROLE cordon_authz_definer;

-- Who its people are; their ids stay, which the log names. How many.
CREATE FUNCTION authz.forget_people(p_tenant_id uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    people  bigint;
BEGIN
    DELETE FROM auth.logins l WHERE l.tenant_id = p_tenant_id;
    UPDATE auth.break_glass b SET reason_enc = '' WHERE b.tenant_id = p_tenant_id AND b.reason_enc <> '';
    UPDATE auth.users u SET status = 'deleted', issuer = NULL, subject = NULL, name_enc = NULL, email_enc = NULL, email_index = NULL,
        profile_index = NULL, updated_at = now() WHERE u.tenant_id = p_tenant_id AND u.status <> 'deleted';
    GET DIAGNOSTICS people = ROW_COUNT;
    RETURN people;
END $$;
GRANT EXECUTE ON FUNCTION authz.forget_people(uuid) TO cordon_keys_definer;
RESET ROLE;

SET LOCAL ROLE cordon_jobs_definer;
INSERT INTO jobs.schedules (name, every, next_run_at) VALUES ('endings', '1 min', now());
CREATE FUNCTION jobs.forget_tenant(p_tenant_id uuid) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (DELETE FROM jobs.jobs j WHERE j.tenant_id = p_tenant_id RETURNING 1)
    SELECT count(*) FROM gone
$$;
GRANT EXECUTE ON FUNCTION jobs.forget_tenant(uuid) TO cordon_keys_definer;
RESET ROLE;

------------------------------------------------------------------------------------------------- what is allowed while it ends

SET LOCAL ROLE cordon_keys_definer;

-- Its key is gone, and what is left of it goes.
CREATE FUNCTION keys.is_ending(p_tenant_id uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM auth.offboardings o WHERE o.tenant_id = p_tenant_id
                   AND o.state IN ('key_destroyed', 'shares_destroyed', 'objects_destroyed', 'destroyed'))
$$;

-- A tenant whose end an operator has begun does not work again unless that is taken back; one that is destroyed never.
CREATE FUNCTION keys.refuse_resuming() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.status = 'destroyed' OR (NEW.status = 'active' AND EXISTS (
            SELECT FROM auth.offboardings o WHERE o.tenant_id = OLD.id AND o.state NOT IN ('requested', 'cancelled'))) THEN
        RAISE EXCEPTION 'the tenant ends' USING ERRCODE = '23514';
    END IF;
    RETURN NEW;
END $$;

-- One that its owner deletes is an erasure of its own: its rows are gone with this, its share is what is left to destroy. Of a
-- tenant that ends it was destroyed before.
CREATE OR REPLACE FUNCTION keys.share_follows() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT keys.is_ending(OLD.tenant_id) AND NOT EXISTS (SELECT FROM app.erasure_items i WHERE i.tenant_id = OLD.tenant_id AND i.id = OLD.id) THEN
        INSERT INTO app.erasure_items (tenant_id, erasure_id, kind, id)
            VALUES (OLD.tenant_id, keys.add_erasure(OLD.tenant_id, 'conversation_deleted', OLD.user_id), 'conversation', OLD.id);
    END IF;
    RETURN NULL;
END $$;

-- As before, and not of a tenant whose end cannot be asked for any more.
CREATE OR REPLACE FUNCTION keys.approve_offboarding(p_tenant_id uuid) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    open  uuid;
BEGIN
    IF authz.may('tenants:manage') IS NOT TRUE THEN
        RAISE EXCEPTION 'tenants:manage is missing' USING ERRCODE = '42501';
    END IF;
    PERFORM FROM auth.tenants t WHERE t.id = p_tenant_id AND t.kms_key_id IS NOT NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such tenant' USING ERRCODE = '23503';
    END IF;
    IF keys.is_ending(p_tenant_id) THEN
        RAISE EXCEPTION 'the tenant ends' USING ERRCODE = '23514';
    END IF;
    SELECT o.id INTO open FROM auth.offboardings o WHERE o.tenant_id = p_tenant_id AND o.state <> 'cancelled';
    IF NOT FOUND THEN
        INSERT INTO auth.offboardings (id, tenant_id) VALUES (authz.uuid_v7(), p_tenant_id) RETURNING id INTO open;
    END IF;
    INSERT INTO auth.offboarding_approvals (tenant_id, offboarding_id, user_id) VALUES (p_tenant_id, open, authz.user_id()) ON CONFLICT DO NOTHING;
    RETURN (SELECT count(*) FROM auth.offboarding_approvals a WHERE a.tenant_id = p_tenant_id AND a.offboarding_id = open);
END $$;

------------------------------------------------------------------------------------------------- the operator's word

-- Before KMS is asked whether the key is gone; again, too. CA001: the window is not over.
CREATE FUNCTION keys.begin_ending(p_slug text, OUT offboarding_id uuid, OUT kms_key_id text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  auth.offboardings;
BEGIN
    SELECT o.* INTO own FROM auth.tenants t JOIN auth.offboardings o ON o.tenant_id = t.id AND o.state <> 'cancelled' WHERE t.slug = p_slug FOR UPDATE OF o;
    IF NOT keys.is_ending(own.tenant_id) AND (own.state IN ('scheduled', 'cancel_intended') AND own.delete_at <= clock_timestamp()) IS NOT TRUE THEN
        RAISE EXCEPTION 'the deletion of the key is not due' USING ERRCODE = 'CA001';
    END IF;
    IF EXISTS (SELECT FROM app.holds h WHERE h.tenant_id = own.tenant_id AND h.released_at IS NULL) THEN
        RAISE EXCEPTION 'the tenant has legal holds' USING ERRCODE = 'CH001';
    END IF;
    offboarding_id := own.id;
    kms_key_id := (SELECT t.kms_key_id FROM auth.tenants t WHERE t.id = own.tenant_id);
END $$;

CREATE FUNCTION keys.key_is_gone(p_offboarding_id uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.offboardings SET state = 'key_destroyed', key_gone_at = clock_timestamp()
        WHERE id = p_offboarding_id AND state IN ('scheduled', 'cancel_intended')
$$;

-- How far the newest end of a tenant is.
CREATE FUNCTION keys.offboarding_of(p_tenant_id uuid) RETURNS TABLE (id uuid, state text, approvals bigint, created_at timestamptz,
    changed_at timestamptz, delete_at timestamptz, key_gone_at timestamptz, certificate text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.id, o.state, (SELECT count(*) FROM auth.offboarding_approvals a WHERE a.tenant_id = o.tenant_id AND a.offboarding_id = o.id
                           AND a.approved_at > now() - interval '30 days'),
           o.created_at, o.changed_at, o.delete_at, o.key_gone_at, o.certificate
        FROM auth.offboardings o WHERE o.tenant_id = p_tenant_id ORDER BY o.id DESC LIMIT 1
$$;
-- For the operator's program.
CREATE FUNCTION keys.show_offboarding(p_slug text) RETURNS TABLE (status text, state text, approvals bigint, changed_at timestamptz,
    delete_at timestamptz, certificate text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.status, o.state, o.approvals, o.changed_at, o.delete_at, o.certificate FROM auth.tenants t, keys.offboarding_of(t.id) o WHERE t.slug = p_slug
$$;
-- For people of the platform.
CREATE FUNCTION keys.get_offboarding(p_tenant_id uuid) RETURNS TABLE (id uuid, state text, approvals bigint, created_at timestamptz,
    delete_at timestamptz, key_gone_at timestamptz, destroyed_at timestamptz, certificate text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF authz.may('tenants:manage') IS NOT TRUE THEN
        RAISE EXCEPTION 'tenants:manage is missing' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT o.id, o.state, o.approvals, o.created_at, o.delete_at, o.key_gone_at,
        CASE o.state WHEN 'destroyed' THEN o.changed_at END, o.certificate FROM keys.offboarding_of(p_tenant_id) o;
END $$;

------------------------------------------------------------------------------------------------- ingest-worker's steps

-- A tenant that ends, and what has happened. Any of them: one whose store refuses does not hold up the others.
CREATE FUNCTION keys.ending_next() RETURNS TABLE (offboarding_id uuid, tenant_id uuid, state text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.id, o.tenant_id, o.state FROM auth.offboardings o
        WHERE o.state IN ('key_destroyed', 'shares_destroyed', 'objects_destroyed') ORDER BY random() LIMIT 1
$$;

-- So much was destroyed since the state began; is_all: nothing is left of it, and the next begins.
CREATE FUNCTION keys.ending_step(p_offboarding_id uuid, from_state text, destroyed bigint, is_all boolean) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.offboardings o SET shares = o.shares + CASE from_state WHEN 'key_destroyed' THEN destroyed ELSE 0 END,
        objects = o.objects + CASE from_state WHEN 'shares_destroyed' THEN destroyed ELSE 0 END,
        state = CASE WHEN NOT is_all THEN o.state WHEN from_state = 'key_destroyed' THEN 'shares_destroyed' ELSE 'objects_destroyed' END
        WHERE o.id = p_offboarding_id AND o.state = from_state AND from_state IN ('key_destroyed', 'shares_destroyed')
$$;

-- Rows of the tenant, up to n documents or conversations or patients with all that hangs on them. False: there are none left.
CREATE FUNCTION keys.ending_rows(p_offboarding_id uuid, n integer) RETURNS boolean
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

-- Nothing is left: people are forgotten, wrapped tenant keys go, the certificate is made, and the tenant is destroyed.
CREATE FUNCTION keys.finish_ending(p_offboarding_id uuid, backup_days integer, cache_s integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    form     CONSTANT text := 'YYYY-MM-DD"T"HH24:MI:SS"Z"';
    own      auth.offboardings;
    tenant   record;
    at       timestamptz := date_trunc('second', clock_timestamp());
    gone     jsonb;
    versions jsonb;
    paper    jsonb;
BEGIN
    SELECT o.* INTO own FROM auth.offboardings o WHERE o.id = p_offboarding_id AND o.state = 'objects_destroyed' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM app.documents d WHERE d.tenant_id = own.tenant_id) OR EXISTS (SELECT FROM app.conversations c WHERE c.tenant_id = own.tenant_id)
       OR EXISTS (SELECT FROM app.subjects s WHERE s.tenant_id = own.tenant_id) THEN
        RAISE EXCEPTION 'the tenant has rows' USING ERRCODE = '23514';
    END IF;
    SELECT t.slug, t.kms_key_id INTO tenant FROM auth.tenants t WHERE t.id = own.tenant_id;
    gone := own.rows || jsonb_build_object('people', authz.forget_people(own.tenant_id), 'jobs', jobs.forget_tenant(own.tenant_id));
    SELECT coalesce(jsonb_agg(jsonb_build_object('kind', k.kind, 'version', k.version) ORDER BY k.kind, k.version), '[]') INTO versions
        FROM keys.tenant_keys k WHERE k.tenant_id = own.tenant_id;
    DELETE FROM keys.tenant_keys k WHERE k.tenant_id = own.tenant_id;
    paper := jsonb_build_object('type', 'cordon tenant certificate v1', 'tenant_id', own.tenant_id, 'tenant', tenant.slug, 'offboarding_id', own.id,
        'requested_at', to_char(own.created_at AT TIME ZONE 'UTC', form), 'completed_at', to_char(at AT TIME ZONE 'UTC', form),
        'approved_by', (SELECT jsonb_agg(jsonb_build_object('user_id', a.user_id, 'at', to_char(a.approved_at AT TIME ZONE 'UTC', form)) ORDER BY a.approved_at)
            FROM auth.offboarding_approvals a WHERE a.tenant_id = own.tenant_id AND a.offboarding_id = own.id),
        'destroyed', jsonb_build_object('kms_key', tenant.kms_key_id, 'kms_key_gone_at', to_char(own.key_gone_at AT TIME ZONE 'UTC', form),
            'tenant_keys', versions, 'key_shares', own.shares, 'object_versions', own.objects, 'rows', gone),
        'left', jsonb_build_array(
            jsonb_build_object('what', 'audit records: ids, times, codes and salted commitments, no text; receipts and certificates of erasures, likewise',
                'until', 'end of the log''s retention'),
            jsonb_build_object('what', 'ids of people, without name, address or login', 'until', 'end of the log''s retention'),
            jsonb_build_object('what', 'ciphertext that no key opens, in backups of the database and its write-ahead log',
                'until', to_char((at + backup_days * interval '1 day') AT TIME ZONE 'UTC', form)),
            jsonb_build_object('what', 'vectors, blind tokens and sealed names and addresses of people in backups of the database',
                'until', to_char((at + backup_days * interval '1 day') AT TIME ZONE 'UTC', form)),
            jsonb_build_object('what', 'keys in the memory of running processes, of no use without the rows',
                'until', to_char((at + cache_s * interval '1 s') AT TIME ZONE 'UTC', form))));
    UPDATE auth.tenants t SET status = 'destroyed', updated_at = now() WHERE t.id = own.tenant_id;
    UPDATE auth.offboardings o SET state = 'destroyed', rows = gone, certificate = paper::text WHERE o.id = own.id;
END $$;

-- As before; and ends of tenants for as long as they are in their state: also one whose key was due to be gone two days ago
-- (KMS takes up to one), which nobody has said to be gone.
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

GRANT EXECUTE ON FUNCTION keys.refuse_resuming() TO cordon_owner;
GRANT EXECUTE ON FUNCTION keys.begin_ending(text), keys.key_is_gone(uuid), keys.show_offboarding(text) TO cordon_owner;
GRANT EXECUTE ON FUNCTION keys.get_offboarding(uuid) TO cordon_query;
GRANT EXECUTE ON FUNCTION keys.is_ending(uuid) TO cordon_jobs_definer;
GRANT EXECUTE ON FUNCTION keys.ending_next(), keys.ending_step(uuid, text, bigint, boolean), keys.ending_rows(uuid, integer),
    keys.finish_ending(uuid, integer, integer) TO cordon_jobs;

RESET ROLE;

------------------------------------------------------------------------------------------------- the record

SET LOCAL ROLE cordon_audit_definer;

CREATE OR REPLACE FUNCTION audit.on_offboarding() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.state = OLD.state THEN
        RETURN NULL;            -- counts of a step that goes on
    END IF;
    PERFORM audit.record('tenant.offboard', NEW.tenant_id, NEW.id, '{}',
        jsonb_build_object('state', NEW.state, 'delete_at_us', (extract(epoch FROM NEW.delete_at) * 1000000)::bigint,
            'shares', CASE NEW.state WHEN 'shares_destroyed' THEN NEW.shares END, 'objects', CASE NEW.state WHEN 'objects_destroyed' THEN NEW.objects END));
    IF NEW.state = 'destroyed' THEN
        PERFORM audit.record('tenant.destroy', NEW.tenant_id, NEW.id, '{}',
            jsonb_build_object('certificate', encode(sha256(convert_to(NEW.certificate, 'UTF8')), 'hex')));
    END IF;
    RETURN NULL;
END $$;

-- The event that vouches for the certificate of a tenant's end, and what proves that it is on that tenant's log, for people
-- of the platform: the tenant has nobody left to ask.
CREATE FUNCTION audit.ending_event(p_tenant_id uuid) RETURNS TABLE (seq bigint, event bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.seq, l.event FROM audit.audit_logs l WHERE l.tenant_id = p_tenant_id AND l.action = 'tenant.destroy' AND authz.may('tenants:manage')
$$;
CREATE FUNCTION audit.ending_checkpoint(p_tenant_id uuid) RETURNS TABLE (size bigint, root bytea, note text, verifier text, signed_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.size, c.root, c.note, c.verifier, c.signed_at FROM audit.checkpoints c
        WHERE c.tenant_id = p_tenant_id AND authz.may('tenants:manage') ORDER BY c.size DESC LIMIT 1
$$;
CREATE FUNCTION audit.ending_hashes(p_tenant_id uuid, p_level integer, p_first bigint, p_count integer) RETURNS TABLE (hash bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.hash FROM audit.hashes_of(p_tenant_id, p_level, p_first, p_count) h WHERE authz.may('tenants:manage')
$$;
GRANT EXECUTE ON FUNCTION audit.ending_event(uuid), audit.ending_checkpoint(uuid), audit.ending_hashes(uuid, integer, bigint, integer)
    TO cordon_audit_reader;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA authz FROM cordon_authz_definer;
REVOKE CREATE ON SCHEMA jobs FROM cordon_jobs_definer;
REVOKE INSERT ON jobs.schedules FROM cordon_jobs_definer;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
CREATE POLICY keys_definer_ends_tenant ON app.documents FOR DELETE TO cordon_keys_definer USING (keys.is_ending(tenant_id));
CREATE TRIGGER refuse_resuming BEFORE UPDATE OF status ON auth.tenants FOR EACH ROW WHEN (NEW.status <> OLD.status) EXECUTE FUNCTION keys.refuse_resuming();
ALTER TABLE auth.tenants ENABLE ALWAYS TRIGGER refuse_resuming;
RESET ROLE;
