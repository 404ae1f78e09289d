DROP TABLE app.idempotency_keys, app.uploads;
DROP FUNCTION jobs.claim_uploads(integer), jobs.upload_is_gone(uuid, uuid, uuid), jobs.expire_idempotency_keys(integer),
    app.check_upload(), audit.on_upload();
