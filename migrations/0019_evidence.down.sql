-- Packages are forgotten with their documents; what the log says of them stays.
DROP TRIGGER packages_follow ON app.documents;
DELETE FROM jobs.jobs WHERE kind = 'evidence';
DELETE FROM app.documents WHERE content_type = 'application/x-tar';
DROP FUNCTION audit.evidence_custody(uuid), audit.evidence_seal(), audit.evidence_receipts(uuid, bigint, integer),
    audit.evidence_events(bigint, bigint, integer), audit.evidence_answers(app.evidence);
REVOKE EXECUTE ON FUNCTION audit.tree_hashes(integer, bigint, integer), audit.find_checkpoint(bigint, boolean) FROM cordon_ingest;
DROP FUNCTION keys.packages_follow(), keys.expire_evidence(integer), keys.end_evidence(uuid, uuid), keys.erase_package(app.evidence, uuid, uuid),
    keys.finish_evidence(bigint), keys.seal_evidence(bytea), keys.open_evidence(uuid), keys.evidence_sources(), keys.own_evidence(),
    keys.begin_evidence(uuid, uuid, uuid[], uuid, timestamptz, timestamptz, text, text, integer), jobs.enqueue_erasure(uuid, uuid, uuid);
DROP TABLE app.evidence_sources, app.evidence;
DROP FUNCTION audit.on_evidence();
DROP POLICY packages ON app.documents;
DROP POLICY keys_definer_packs ON app.documents;
DROP POLICY audit_definer_reads ON app.receipts;
DROP POLICY audit_definer_reads ON audit.document_events;
REVOKE SELECT (content_type, bytes, created_by, created_at), UPDATE (labels, bytes) ON app.documents FROM cordon_keys_definer;
REVOKE SELECT (tenant_id, answer_id, body) ON app.receipts FROM cordon_audit_definer;
REVOKE SELECT ON audit.document_events FROM cordon_audit_definer;
REVOKE SELECT (recorded_at, occurred_at, document_ids) ON audit.audit_logs FROM cordon_audit_definer;
REVOKE SELECT (action) ON audit.audit_logs FROM cordon_keys_definer;
REVOKE USAGE ON SCHEMA keys FROM cordon_audit_definer, cordon_jobs;
DELETE FROM auth.role_scopes WHERE scope = 'evidence:manage';
DELETE FROM auth.scopes WHERE name = 'evidence:manage';
