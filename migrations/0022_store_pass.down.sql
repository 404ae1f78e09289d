-- What was found stays on the log.
SET LOCAL ROLE cordon_owner;
GRANT DELETE ON jobs.schedules TO cordon_jobs_definer;
RESET ROLE;
SET LOCAL ROLE cordon_jobs_definer;
DELETE FROM jobs.schedules WHERE name = 'reconcile';
RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE DELETE ON jobs.schedules FROM cordon_jobs_definer;
RESET ROLE;
DROP FUNCTION jobs.store_state(), jobs.store_compared(uuid, uuid, bigint, bigint, integer),
    jobs.store_differs(uuid, uuid, text, bigint, bigint, integer), jobs.store_row(uuid, uuid), jobs.store_rows(uuid, uuid, integer), jobs.store_begin();
DROP TABLE jobs.store_differences, jobs.store_pass;
DROP FUNCTION audit.on_store_difference(), audit.on_store_pass();
REVOKE SELECT (content_type, bytes) ON app.documents FROM cordon_jobs_definer;
