-- A tenant that is destroyed stays so: this fails while there is one, and loses what is known of ends under way.
SET LOCAL ROLE cordon_owner;
DROP TRIGGER refuse_resuming ON auth.tenants;
DROP POLICY keys_definer_ends_tenant ON app.documents;
GRANT DELETE ON jobs.schedules TO cordon_jobs_definer;
GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;

SET LOCAL ROLE cordon_jobs_definer;
DELETE FROM jobs.schedules WHERE name = 'endings';
RESET ROLE;

SET LOCAL ROLE cordon_audit_definer;
CREATE OR REPLACE FUNCTION audit.on_offboarding() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM audit.record('tenant.offboard', NEW.tenant_id, NEW.id, '{}',
        jsonb_build_object('state', NEW.state, 'delete_at_us', (extract(epoch FROM NEW.delete_at) * 1000000)::bigint));
    RETURN NULL;
END $$;
RESET ROLE;

SET LOCAL ROLE cordon_keys_definer;
CREATE OR REPLACE FUNCTION keys.share_follows() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM app.erasure_items i WHERE i.tenant_id = OLD.tenant_id AND i.id = OLD.id) THEN
        INSERT INTO app.erasure_items (tenant_id, erasure_id, kind, id)
            VALUES (OLD.tenant_id, keys.add_erasure(OLD.tenant_id, 'conversation_deleted', OLD.user_id), 'conversation', OLD.id);
    END IF;
    RETURN NULL;
END $$;

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
    SELECT o.id INTO open FROM auth.offboardings o WHERE o.tenant_id = p_tenant_id AND o.state <> 'cancelled';
    IF NOT FOUND THEN
        INSERT INTO auth.offboardings (id, tenant_id) VALUES (authz.uuid_v7(), p_tenant_id) RETURNING id INTO open;
    END IF;
    INSERT INTO auth.offboarding_approvals (tenant_id, offboarding_id, user_id) VALUES (p_tenant_id, open, authz.user_id()) ON CONFLICT DO NOTHING;
    RETURN (SELECT count(*) FROM auth.offboarding_approvals a WHERE a.tenant_id = p_tenant_id AND a.offboarding_id = open);
END $$;

CREATE OR REPLACE FUNCTION keys.work_states() RETURNS TABLE (kind text, pending bigint, stopped bigint, oldest_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.kind, count(*) FILTER (WHERE w.runs), count(*) FILTER (WHERE NOT w.runs),
           coalesce(greatest(0, (extract(epoch FROM clock_timestamp() - min(w.since)) * 1000)::bigint), 0)
    FROM (SELECT 'erasure' AS kind, coalesce(j.state IN ('queued', 'running'), false) AS runs, e.requested_at AS since
              FROM app.erasures e LEFT JOIN jobs.undone('erase') j ON j.tenant_id = e.tenant_id AND j.id = e.id WHERE e.done_at IS NULL
          UNION ALL SELECT 'rotation', j.state <> 'dead', j.created_at FROM jobs.undone('rewrap') j
          UNION ALL SELECT 'offboarding', true, o.created_at FROM auth.offboardings o WHERE o.state IN ('intended', 'cancel_intended')) w
    GROUP BY w.kind
$$;
RESET ROLE;

SET LOCAL ROLE cordon_owner;
REVOKE DELETE ON jobs.schedules FROM cordon_jobs_definer;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
REVOKE UPDATE (reason_enc) ON auth.break_glass FROM cordon_authz_definer;
DROP TRIGGER check_move ON auth.offboardings;
DROP FUNCTION auth.check_offboarding_move();
RESET ROLE;
DROP FUNCTION audit.ending_event(uuid), audit.ending_checkpoint(uuid), audit.ending_hashes(uuid, integer, bigint, integer);
DROP FUNCTION keys.begin_ending(text), keys.key_is_gone(uuid), keys.show_offboarding(text), keys.get_offboarding(uuid), keys.offboarding_of(uuid),
    keys.ending_next(), keys.ending_step(uuid, text, bigint, boolean), keys.ending_rows(uuid, integer), keys.finish_ending(uuid, integer, integer),
    keys.refuse_resuming(), keys.is_ending(uuid);
DROP FUNCTION authz.forget_people(uuid), jobs.forget_tenant(uuid);
SET LOCAL ROLE cordon_owner;
ALTER TABLE auth.offboardings DROP CONSTRAINT offboardings_certificate, DROP CONSTRAINT offboardings_state_check,
    ADD CONSTRAINT offboardings_state_check CHECK (state IN ('requested', 'intended', 'scheduled', 'cancel_intended', 'cancelled')),
    DROP COLUMN changed_at, DROP COLUMN key_gone_at, DROP COLUMN shares, DROP COLUMN objects, DROP COLUMN rows, DROP COLUMN certificate;
ALTER TABLE auth.tenants DROP CONSTRAINT tenants_status_check;
ALTER TABLE auth.tenants ADD CONSTRAINT tenants_status_check CHECK (status IN ('active', 'suspended'));
RESET ROLE;
