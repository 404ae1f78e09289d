DROP FUNCTION jobs.release(integer), jobs.postpone(text), jobs.fail(text, boolean), jobs.complete(), jobs.progress(text, integer, integer, integer), jobs.own_job(), jobs.depth(),
    jobs.reap(text), jobs.end_attempt(bigint, text, text), jobs.hold_document(uuid, uuid), jobs.renew(uuid, bigint, text, integer),
    jobs.claim(text, text, integer, integer), jobs.enqueue(uuid, text, text, uuid), jobs.lease_is_held(authz.claims, boolean);
DROP TABLE jobs.jobs, jobs.moves;
DROP SEQUENCE jobs.fence;
DROP FUNCTION jobs.check_move();
