DROP TRIGGER end_session ON auth.api_keys;
DROP FUNCTION authz.begin_login(bytea, bytea, text, text, boolean), authz.take_login(bytea, bytea),
    authz.log_in(text, text, text, timestamptz, text, text[], text[], boolean, boolean, boolean, bytea, bytea, bytea, bytea, bytea, integer,
                 timestamptz, timestamptz, bytea, bytea),
    authz.admit_cookie(bytea, boolean, integer), authz.refresh_login(bytea, text, text, text[], boolean, timestamptz, bytea),
    authz.end_login(bytea, text), authz.log_out(), authz.ended_sessions(uuid[], uuid[]), authz.sweep_logins(),
    authz.on_key_revoked(), authz.login_end(auth.logins, timestamptz);
DROP POLICY auth_reads_platform ON auth.sessions;
DROP POLICY auth_changes_platform ON auth.sessions;
DROP POLICY auth_reads_platform ON auth.users;
REVOKE UPDATE (revoked_at, revoked_reason) ON auth.sessions FROM cordon_authz_definer;
DROP TABLE auth.logins, auth.login_attempts;
