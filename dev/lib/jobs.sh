# shellcheck shell=bash
# What waits, and why: the queue as its rows say it, read as the database's administrator.

QUEUES_SQL="
SELECT queue, state, jobs, oldest AS \"oldest age\" FROM (
    SELECT j.queue, j.state, count(*) AS jobs, date_trunc('seconds', now() - min(j.created_at)) AS oldest
    FROM jobs.jobs j WHERE j.state NOT IN ('succeeded', 'cancelled') GROUP BY 1, 2
    UNION ALL
    SELECT 'audit outbox', 'waiting', waiting, make_interval(secs => round(coalesce(oldest_age_ms, 0) / 1000.0)) FROM audit.backlog()
) q ORDER BY 1, 2"

# A queued job waits for a worker or, after a failure, for its time; what failed and since when stands beside it.
JOBS_SQL="
SELECT j.id AS job, t.slug AS tenant, j.queue, j.kind, j.state, coalesce(j.stage, '') AS stage,
       j.attempt || '/' || j.max_attempts AS attempts, coalesce(j.reason_code, '') AS reason, j.outages,
       coalesce(date_trunc('seconds', now() - j.outage_since)::text, '') AS \"away for\",
       CASE WHEN j.state = 'queued' AND j.run_after > now() THEN 'until ' || to_char(j.run_after, 'HH24:MI:SS')
            WHEN j.state = 'queued' THEN 'for a worker'
            WHEN j.state = 'running' AND j.lease_until < now() THEN 'for its dead worker''s lease'
            WHEN j.state = 'running' THEN 'held by ' || j.lease_owner ELSE '' END AS waits,
       date_trunc('seconds', now() - j.created_at) AS age
FROM jobs.jobs j LEFT JOIN auth.tenants t ON t.id = j.tenant_id
WHERE j.state NOT IN ('succeeded', 'cancelled') ORDER BY j.state = 'dead', j.queue, j.priority, j.seq LIMIT 50"

as_table() { admin_sql -P tuples_only=off -P format=aligned -P footer=off -d cordon -c "$1"; }

command_jobs() {
    need_state
    as_table "$QUEUES_SQL"
    say ""
    as_table "$JOBS_SQL"
    say "" "reasons: docs/ERROR_CODES.md; what to do: docs/runbooks.md"
}
