SET LOCAL ROLE cordon_owner;
ALTER TABLE app.answers DROP CONSTRAINT answers_receipt, DROP COLUMN salt_enc, DROP COLUMN source_salts_enc;
DROP TABLE app.receipts;
DROP FUNCTION audit.on_receipt(), audit.tree_hashes(integer, bigint, integer), audit.find_checkpoint(bigint, boolean), audit.receipt_event(uuid);
REVOKE SELECT (event, leaf_hash, actor_id) ON audit.audit_logs FROM cordon_audit_definer;
RESET ROLE;
