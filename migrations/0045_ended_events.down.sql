DROP FUNCTION audit.ending_archived(uuid);
