-- What models have cost is told once: each telling of a process has a number, and the last one of each is kept beside the sums, so that a
-- repeat of one whose answer was lost adds nothing (ADR 0029). And the sums of all tenants are read page by page.

SET LOCAL ROLE cordon_owner;

CREATE TABLE audit.model_tellers (
    teller_id  uuid PRIMARY KEY,                -- a run of embedding-worker
    telling    bigint NOT NULL,                 -- its last that was added
    told_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE audit.model_tellers ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit.model_tellers FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON audit.model_tellers TO cordon_audit_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON audit.model_tellers TO cordon_audit_definer;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;

SET LOCAL ROLE cordon_audit_definer;

-- What tenants have cost today and in this month, all replicas together: these, or p_tenants NULL: the next p_n behind p_after (NULL: from
-- the first) that have cost anything in this month. Sums end at what a bigint holds.
CREATE FUNCTION audit.model_sums(p_tenants uuid[], p_after uuid, p_n integer) RETURNS TABLE (tenant_id uuid, day_cost bigint, month_cost bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    today  date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
BEGIN
    RETURN QUERY SELECT m.tenant_id, coalesce(max(m.cost) FILTER (WHERE m.day = today), 0), least(sum(m.cost), 9223372036854775807)::bigint FROM audit.model_spend m
        WHERE m.day >= date_trunc('month', today)::date AND (p_tenants IS NULL OR m.tenant_id = ANY (p_tenants)) AND (p_after IS NULL OR m.tenant_id > p_after)
        GROUP BY m.tenant_id ORDER BY m.tenant_id LIMIT p_n;
END $$;

-- Add what these tenants have cost, unless this teller's telling of that number was added before; returns what each has cost.
DROP FUNCTION audit.add_model_spend(uuid[], bigint[]);
CREATE FUNCTION audit.add_model_spend(p_teller uuid, p_telling bigint, p_tenants uuid[], p_costs bigint[])
RETURNS TABLE (tenant_id uuid, day_cost bigint, month_cost bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    most   CONSTANT numeric := 9223372036854775807;
    today  date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
BEGIN
    INSERT INTO audit.model_tellers AS t (teller_id, telling) VALUES (p_teller, p_telling)
        ON CONFLICT (teller_id) DO UPDATE SET telling = excluded.telling, told_at = clock_timestamp() WHERE t.telling < excluded.telling;
    IF FOUND THEN
        INSERT INTO audit.model_spend AS m (day, tenant_id, cost)
            SELECT today, s.tenant, least(sum(greatest(s.cost, 0)), most) FROM unnest(p_tenants, p_costs) s (tenant, cost)
                WHERE s.tenant IS NOT NULL AND s.cost IS NOT NULL GROUP BY s.tenant ORDER BY s.tenant
            ON CONFLICT (day, tenant_id) DO UPDATE SET cost = least(m.cost::numeric + excluded.cost, most);
    END IF;
    RETURN QUERY SELECT * FROM audit.model_sums(p_tenants, NULL, NULL);
END $$;

-- A page of all; with the first one, what nobody asks for any more is forgotten.
CREATE FUNCTION audit.model_spend_page(p_after uuid, p_n integer) RETURNS TABLE (tenant_id uuid, day_cost bigint, month_cost bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_after IS NULL THEN
        DELETE FROM audit.model_spend m WHERE m.day < (clock_timestamp() AT TIME ZONE 'UTC')::date - 400;
        DELETE FROM audit.model_tellers t WHERE t.told_at < clock_timestamp() - interval '400 days';
    END IF;
    RETURN QUERY SELECT * FROM audit.model_sums(NULL, p_after, p_n);
END $$;
GRANT EXECUTE ON FUNCTION audit.add_model_spend(uuid, bigint, uuid[], bigint[]), audit.model_spend_page(uuid, integer) TO cordon_audit;
RESET ROLE;

SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
