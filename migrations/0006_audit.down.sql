DROP FUNCTION audit.claims(text[]), audit.lock_heads(uuid[]), audit.find_events(uuid[]),
    audit.advance_heads(uuid[], bigint[], bigint[], bytea[], bytea[], uuid[]),
    audit.make_partitions(), audit.month_floor(date);
DROP TABLE audit.audit_heads, audit.audit_logs;
DROP FUNCTION audit.refuse_change(), audit.check_head_writer(), audit.check_head_grows();
DROP SCHEMA audit;
