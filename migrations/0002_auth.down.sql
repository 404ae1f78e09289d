DROP FUNCTION authz.mint(text, text, text, timestamptz, text, text[], text, text);
DROP FUNCTION authz.mint_job(uuid, uuid, text, uuid, uuid, bigint, text);
DROP TABLE auth.sessions, auth.users, auth.tenants, auth.role_scopes, auth.scopes, authz.ticket_keys;
DROP FUNCTION authz.rotate_ticket_key(), authz.tenant(), authz.may(text), authz.user_id(), authz.session_id(),
    authz.job_document(), authz.enter(text), authz.check(text), authz.verify(text, boolean), authz.current_claims(), authz.read_ticket(text), authz.sign(authz.claims), authz.uuid_v7();
DROP TYPE authz.claims;
