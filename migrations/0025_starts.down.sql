SET LOCAL ROLE cordon_audit_definer;
DROP FUNCTION audit.process_reported(text, uuid, text, text, text);
RESET ROLE;
