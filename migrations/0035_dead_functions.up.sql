-- What nobody calls any more: batches went onto the log in these three steps until 0023, and users were on the record by
-- on_user() until 0010.

SET LOCAL ROLE cordon_audit_definer;
DROP FUNCTION audit.advance_heads(uuid[], bigint[], bigint[], bytea[], bytea[], uuid[]), audit.put_nodes(uuid[], bigint[], bigint[], bytea[]),
    audit.append(uuid[], uuid[], bigint[], timestamptz[], timestamptz[], text[], text[], text[], uuid[], uuid[], uuid[], uuid[], uuid[], bigint[],
                 bigint[], bytea[], bytea[], bytea[], bytea[], uuid[], bigint[]), audit.on_user();
RESET ROLE;
