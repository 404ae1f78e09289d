DROP FUNCTION audit.recover(bigint, text), audit.put_anchor(bigint), audit.anchor_notes(bigint),
    audit.put_checkpoints(uuid[], bigint[], bytea[], text[], text[], bigint[], bigint), audit.anchor_state(), audit.lost_head(),
    audit.due_heads(), audit.begin_signing(), audit.put_nodes(uuid[], bigint[], bigint[], bytea[]);
DROP INDEX audit.audit_logs_action, audit.audit_logs_actor, audit.audit_logs_resource, audit.audit_logs_request;
DROP TABLE audit.cosignatures, audit.recoveries, audit.anchors, audit.checkpoints, audit.tree_nodes;
DROP FUNCTION audit.on_recovery();
