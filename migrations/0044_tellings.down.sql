SET LOCAL ROLE cordon_owner;
GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;

SET LOCAL ROLE cordon_audit_definer;
DROP FUNCTION audit.model_spend_page(uuid, integer), audit.add_model_spend(uuid, bigint, uuid[], bigint[]), audit.model_sums(uuid[], uuid, integer);
CREATE FUNCTION audit.add_model_spend(p_tenants uuid[], p_costs bigint[]) RETURNS TABLE (tenant_id uuid, day_cost bigint, month_cost bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    most   CONSTANT numeric := 9223372036854775807;
    today  date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
BEGIN
    IF cardinality(p_tenants) = 0 THEN
        DELETE FROM audit.model_spend m WHERE m.day < today - 400;
    END IF;
    INSERT INTO audit.model_spend AS m (day, tenant_id, cost)
        SELECT today, s.tenant, least(sum(greatest(s.cost, 0)), most) FROM unnest(p_tenants, p_costs) s (tenant, cost)
            WHERE s.tenant IS NOT NULL AND s.cost IS NOT NULL GROUP BY s.tenant ORDER BY s.tenant
        ON CONFLICT (day, tenant_id) DO UPDATE SET cost = least(m.cost::numeric + excluded.cost, most);
    RETURN QUERY SELECT m.tenant_id, coalesce(max(m.cost) FILTER (WHERE m.day = today), 0), least(sum(m.cost), most)::bigint FROM audit.model_spend m
        WHERE m.day >= date_trunc('month', today)::date AND (cardinality(p_tenants) = 0 OR m.tenant_id = ANY (p_tenants)) GROUP BY m.tenant_id LIMIT 16384;
END $$;
GRANT EXECUTE ON FUNCTION audit.add_model_spend(uuid[], bigint[]) TO cordon_audit;
RESET ROLE;

SET LOCAL ROLE cordon_owner;
DROP TABLE audit.model_tellers;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;
RESET ROLE;
