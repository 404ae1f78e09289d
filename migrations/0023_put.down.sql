DROP FUNCTION audit.put(uuid[], bigint[], bytea[], bigint[], bytea[], bytea[], uuid[], bigint[], bigint[], bytea[], timestamptz, uuid[], timestamptz[],
    text[], text[], text[], uuid[], uuid[], uuid[], uuid[], uuid[], bigint[], bigint[], bytea[], bytea[], bytea[], bytea[], uuid[], bigint[]);
GRANT EXECUTE ON FUNCTION audit.advance_heads(uuid[], bigint[], bigint[], bytea[], bytea[], uuid[]), audit.put_nodes(uuid[], bigint[], bigint[], bytea[]),
    audit.append(uuid[], uuid[], bigint[], timestamptz[], timestamptz[], text[], text[], text[], uuid[], uuid[], uuid[], uuid[], uuid[], bigint[],
                 bigint[], bytea[], bytea[], bytea[], bytea[], uuid[], bigint[]) TO cordon_audit;
DROP POLICY definer_appends ON audit.audit_logs;
DROP POLICY definer_appends ON audit.document_events;
REVOKE INSERT ON audit.audit_logs, audit.document_events FROM cordon_audit_definer;
CREATE POLICY writer_appends ON audit.audit_logs FOR INSERT TO cordon_audit WITH CHECK (true);
CREATE POLICY writer_appends ON audit.document_events FOR INSERT TO cordon_audit WITH CHECK (true);
GRANT INSERT ON audit.audit_logs, audit.document_events TO cordon_audit;
