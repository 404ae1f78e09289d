-- Tenants, people, sessions, and the ticket that stands for one of them in a transaction.
--
-- A ticket is 1.<kid>.<hex of JSON claims>.<hex HMAC-SHA256 of the three parts before>. Only this database can make
-- one: the key is in authz.ticket_keys, which a single NOLOGIN role may read. authz.enter() verifies a ticket and
-- leaves, beside it, a proof that is bound to this transaction; every policy asks authz.tenant() and authz.may(), which
-- verify that proof again. A ticket that somebody put into the setting by hand has no proof and opens nothing.

SET LOCAL ROLE cordon_owner;

-- UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, version, 74 random bits.
CREATE FUNCTION authz.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT encode(set_byte(
        overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        6, (get_byte(uuid_send(gen_random_uuid()), 0) & 15) | 112), 'hex')::uuid
$$;
GRANT EXECUTE ON FUNCTION authz.uuid_v7() TO cordon_authz_definer, cordon_jobs_definer, cordon_keys_definer, cordon_audit_definer;

------------------------------------------------------------------------------------------------- tables

CREATE TABLE auth.tenants (
    id          uuid PRIMARY KEY,
    slug        text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,38}[a-z0-9]$'
                    -- mint() takes a slug or an id in one argument: a slug must not look like an id
                    AND slug !~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'),
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    kms_key_id  text CHECK (length(kms_key_id) <= 2048),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- People outside every tenant (platform_admin) belong to this row; authz.tenant() is NULL for them.
INSERT INTO auth.tenants (id, slug, name) VALUES ('00000000-0000-0000-0000-000000000000', 'cordon-platform', 'Platform');

CREATE TABLE auth.users (
    tenant_id     uuid NOT NULL REFERENCES auth.tenants,
    id            uuid NOT NULL,
    issuer        text NOT NULL CHECK (length(issuer) BETWEEN 1 AND 512),
    subject       text NOT NULL CHECK (length(subject) BETWEEN 1 AND 512),
    display_name  text CHECK (length(display_name) <= 200),
    email         text CHECK (length(email) <= 320),
    status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, issuer, subject)
);

-- One per token (issuer and token id), so that one device can be logged out.
CREATE TABLE auth.sessions (
    tenant_id       uuid NOT NULL,
    id              uuid NOT NULL,
    user_id         uuid NOT NULL,
    token_hash      bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    roles           text[] NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    last_seen_at    timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz,
    revoked_reason  text CHECK (length(revoked_reason) <= 64),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, token_hash),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id)
);
CREATE INDEX sessions_user ON auth.sessions (tenant_id, user_id);

-- What a role may do. realm: scopes of the platform never come with a tenant, nor the other way round.
CREATE TABLE auth.scopes (
    name   text PRIMARY KEY CHECK (name ~ '^[a-z]+(:[a-z]+)?$'),
    realm  text NOT NULL CHECK (realm IN ('tenant', 'platform')),
    UNIQUE (name, realm)
);
CREATE TABLE auth.role_scopes (
    role   text NOT NULL CHECK (role ~ '^[a-z][a-z_]{0,63}$'),
    scope  text NOT NULL REFERENCES auth.scopes,
    PRIMARY KEY (role, scope)
);
INSERT INTO auth.scopes (name, realm) VALUES
    ('documents:read', 'tenant'), ('documents:write', 'tenant'), ('query', 'tenant'), ('audit:read', 'tenant'),
    ('users:manage', 'tenant'), ('tenants:manage', 'platform');
INSERT INTO auth.role_scopes (role, scope) VALUES
    ('admin',          'documents:read'), ('admin',       'documents:write'), ('admin',       'query'), ('admin', 'users:manage'),
    ('clinician',      'documents:read'), ('clinician',   'documents:write'), ('clinician',   'query'),
    ('case_worker',    'documents:read'), ('case_worker', 'documents:write'), ('case_worker', 'query'),
    ('reviewer',       'documents:read'), ('reviewer',    'query'),
    ('auditor',        'audit:read'),
    ('service',        'documents:read'), ('service',     'documents:write'), ('service',     'query'),
    ('platform_admin', 'tenants:manage');

-- One key signs; retired ones verify until no ticket of theirs can be alive.
CREATE TABLE authz.ticket_keys (
    kid         integer PRIMARY KEY CHECK (kid BETWEEN 1 AND 99999),
    secret      bytea NOT NULL CHECK (octet_length(secret) = 32),
    created_at  timestamptz NOT NULL DEFAULT now(),
    retired_at  timestamptz
);
CREATE UNIQUE INDEX ticket_keys_one_signs ON authz.ticket_keys ((true)) WHERE retired_at IS NULL;

-- What a ticket says. A user's ticket names a session; a job's names the job, its document and its lease.
CREATE TYPE authz.claims AS (
    kind         text,           -- 'user' or 'job'
    tenant_id    uuid,           -- NULL: outside every tenant
    user_id      uuid,           -- for a job, who asked for it
    session_id   uuid,
    scopes       text[],
    expires_at   timestamptz,
    job_id       uuid,
    document_id  uuid,
    fence        bigint,
    lease_hash   text
);

------------------------------------------------------------------------------------------------- definer functions

GRANT SELECT ON authz.ticket_keys, auth.tenants, auth.scopes, auth.role_scopes TO cordon_authz_definer;
GRANT INSERT, UPDATE (retired_at), DELETE ON authz.ticket_keys TO cordon_authz_definer;
GRANT SELECT, INSERT, UPDATE (display_name, email, updated_at) ON auth.users TO cordon_authz_definer;
GRANT SELECT, INSERT, UPDATE (last_seen_at, roles) ON auth.sessions TO cordon_authz_definer;

GRANT CREATE ON SCHEMA authz TO cordon_authz_definer;
RESET ROLE;
SET LOCAL ROLE cordon_authz_definer;

-- The claims that are signed as they are. Callers have already decided that they are true.
CREATE FUNCTION authz.sign(c authz.claims) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    k       record;
    signed  text;
BEGIN
    SELECT t.kid, t.secret INTO k FROM authz.ticket_keys t WHERE t.retired_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no active ticket key' USING ERRCODE = '55000';
    END IF;
    signed := '1.' || k.kid || '.' || encode(convert_to(jsonb_strip_nulls(to_jsonb(c))::text, 'UTF8'), 'hex');
    RETURN signed || '.' || encode(ext.hmac(convert_to(signed, 'UTF8'), k.secret, 'sha256'), 'hex');
END $$;

-- Verify a ticket by itself: shape, MAC, fields, expiry. Raises 28000 for anything else than a good one.
CREATE FUNCTION authz.read_ticket(ticket text) RETURNS authz.claims
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part    text[] := string_to_array(ticket, '.');
    secret  bytea;
    c       authz.claims;
BEGIN
    IF (length(ticket) BETWEEN 70 AND 8192 AND cardinality(part) = 4 AND part[1] = '1') IS NOT TRUE THEN
        RAISE EXCEPTION 'ticket refused: shape' USING ERRCODE = '28000';
    END IF;
    SELECT k.secret INTO secret FROM authz.ticket_keys k
        WHERE k.kid::text = part[2] AND (k.retired_at IS NULL OR k.retired_at > clock_timestamp() - interval '70 s');
    -- Hashed once more before they are compared: where two hashes differ tells nothing about the MAC.
    IF secret IS NULL OR (
        sha256(convert_to(encode(ext.hmac(convert_to('1.' || part[2] || '.' || part[3], 'UTF8'), secret, 'sha256'), 'hex'), 'UTF8'))
            = sha256(convert_to(part[4], 'UTF8'))) IS NOT TRUE THEN
        RAISE EXCEPTION 'ticket refused: signature' USING ERRCODE = '28000';
    END IF;
    BEGIN
        c := jsonb_populate_record(NULL::authz.claims, convert_from(decode(part[3], 'hex'), 'UTF8')::jsonb);
    EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION 'ticket refused: claims' USING ERRCODE = '28000';
    END;
    IF (c.kind IN ('user', 'job')) IS NOT TRUE
       OR c.user_id IS NULL OR c.scopes IS NULL OR array_position(c.scopes, NULL) IS NOT NULL OR c.expires_at IS NULL
       OR (c.kind = 'user' AND (c.session_id IS NULL
                                OR num_nonnulls(c.job_id, c.document_id, c.fence, c.lease_hash) <> 0))
       OR (c.kind = 'job' AND (c.session_id IS NOT NULL
                               OR num_nulls(c.tenant_id, c.job_id, c.document_id, c.fence, c.lease_hash) <> 0)) THEN
        RAISE EXCEPTION 'ticket refused: claims' USING ERRCODE = '28000';
    END IF;
    IF (c.expires_at > clock_timestamp() AND c.expires_at <= clock_timestamp() + interval '70 s') IS NOT TRUE THEN
        RAISE EXCEPTION 'ticket refused: expired' USING ERRCODE = '28000';
    END IF;
    RETURN c;
END $$;

-- Verify a ticket and that it still stands: session, user and tenant are not revoked or, for a job, its lease is held.
-- p_locks keeps that job's row locked until this transaction ends. Raises 28000 when any of it is not so.
CREATE FUNCTION authz.verify(ticket text, p_locks boolean) RETURNS authz.claims
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims := authz.read_ticket(ticket);
BEGIN
    IF c.kind = 'user' THEN
        PERFORM FROM auth.sessions s
            JOIN auth.users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id
            JOIN auth.tenants t ON t.id = s.tenant_id
            WHERE s.tenant_id = coalesce(c.tenant_id, '00000000-0000-0000-0000-000000000000'::uuid)
              AND s.id = c.session_id AND s.user_id = c.user_id
              AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp()
              AND u.status = 'active' AND t.status = 'active';
        IF NOT FOUND THEN
            RAISE EXCEPTION 'ticket refused: revoked' USING ERRCODE = '28000';
        END IF;
    ELSE
        -- The person who asked may have left meanwhile; the work was accepted from the tenant.
        PERFORM FROM auth.tenants t WHERE t.id = c.tenant_id AND t.status = 'active';
        IF NOT FOUND OR jobs.lease_is_held(c, p_locks) IS NOT TRUE THEN
            RAISE EXCEPTION 'ticket refused: lease' USING ERRCODE = '28000';
        END IF;
    END IF;
    RETURN c;
END $$;

-- For the audit log, which records under a ticket without acting under it.
CREATE FUNCTION authz.check(ticket text) RETURNS authz.claims
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT authz.verify(ticket, false)
$$;

-- Begin to act as the ticket's holder, until the transaction ends. For a job, nobody takes the job over before that.
CREATE FUNCTION authz.enter(ticket text, OUT tenant_id uuid, OUT user_id uuid, OUT session_id uuid, OUT scopes text[],
                            OUT job_id uuid, OUT document_id uuid, OUT fence bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims := authz.verify(ticket, true);
BEGIN
    -- what current_claims() verifies: this ticket, in this transaction of this backend
    PERFORM set_config('authz.ticket', ticket, true), set_config('authz.proof', encode(ext.hmac(convert_to(
            'entered.' || pg_backend_pid() || '.' || extract(epoch FROM transaction_timestamp()) || '.' || ticket, 'UTF8'), k.secret, 'sha256'), 'hex'), true)
        FROM authz.ticket_keys k WHERE k.kid::text = split_part(ticket, '.', 2);
    tenant_id := c.tenant_id;
    user_id := c.user_id;
    session_id := c.session_id;
    scopes := c.scopes;
    job_id := c.job_id;
    document_id := c.document_id;
    fence := c.fence;
END $$;

-- The claims that this transaction entered with; NULL when it did not. Anything but enter()'s own settings raises 28000.
CREATE FUNCTION authz.current_claims() RETURNS authz.claims
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ticket  text := current_setting('authz.ticket', true);
    secret  bytea;
    c       authz.claims;
BEGIN
    -- unset before the first use in a session, '' after a transaction that used it
    IF ticket IS NULL OR ticket = '' THEN
        RETURN NULL;
    END IF;
    SELECT k.secret INTO secret FROM authz.ticket_keys k WHERE k.kid::text = split_part(ticket, '.', 2);
    IF secret IS NULL OR (
        sha256(convert_to(encode(ext.hmac(convert_to(
                'entered.' || pg_backend_pid() || '.' || extract(epoch FROM transaction_timestamp()) || '.' || ticket, 'UTF8'), secret, 'sha256'), 'hex'), 'UTF8'))
            = sha256(convert_to(current_setting('authz.proof', true), 'UTF8'))) IS NOT TRUE THEN
        RAISE EXCEPTION 'ticket refused: not entered' USING ERRCODE = '28000';
    END IF;
    c := jsonb_populate_record(NULL::authz.claims, convert_from(decode(split_part(ticket, '.', 3), 'hex'), 'UTF8')::jsonb);
    IF (c.expires_at > clock_timestamp()) IS NOT TRUE THEN
        RAISE EXCEPTION 'ticket refused: expired' USING ERRCODE = '28000';
    END IF;
    RETURN c;
END $$;

-- What policies ask. These run as their caller and have parsed bodies, so that the planner can inline them.
CREATE FUNCTION authz.tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED
    RETURN (authz.current_claims()).tenant_id;
CREATE FUNCTION authz.may(scope text) RETURNS boolean LANGUAGE sql STABLE PARALLEL RESTRICTED
    RETURN coalesce(scope = ANY ((authz.current_claims()).scopes), false);
CREATE FUNCTION authz.user_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED
    RETURN (authz.current_claims()).user_id;
CREATE FUNCTION authz.session_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED
    RETURN (authz.current_claims()).session_id;
-- The one document that a job's ticket is about; NULL for every other ticket.
CREATE FUNCTION authz.job_document() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED
    RETURN (authz.current_claims()).document_id;

-- A ticket for the bearer of a token that auth has verified: makes the user and the session when they are new. Refuses
-- with 28000 an unknown or suspended tenant, a disabled user, a revoked or expired session, and a token id that was
-- somebody else's.
CREATE FUNCTION authz.mint(issuer text, subject text, token_id text, token_expires_at timestamptz, tenant text, roles text[],
                           display_name text, email text,
                           OUT ticket text, OUT tenant_id uuid, OUT user_id uuid, OUT session_id uuid, OUT scopes text[],
                           OUT expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    nil      CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    home     uuid;                  -- the tenant, or nil for the platform's own people
    person   record;
    session  record;
    hashed   bytea;
    c        authz.claims;
BEGIN
    IF (length(mint.issuer) BETWEEN 1 AND 512) IS NOT TRUE OR (length(mint.subject) BETWEEN 1 AND 512) IS NOT TRUE
       OR (length(mint.token_id) BETWEEN 1 AND 512) IS NOT TRUE OR mint.roles IS NULL
       OR (mint.token_expires_at > clock_timestamp()) IS NOT TRUE THEN
        RAISE EXCEPTION 'no ticket: token' USING ERRCODE = '28000';
    END IF;

    IF mint.tenant IS NULL THEN
        home := nil;
    ELSIF mint.tenant ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' THEN
        SELECT t.id INTO home FROM auth.tenants t WHERE t.id = mint.tenant::uuid AND t.status = 'active' AND t.id <> nil;
    ELSE
        SELECT t.id INTO home FROM auth.tenants t WHERE t.slug = mint.tenant AND t.status = 'active' AND t.id <> nil;
    END IF;
    IF home IS NULL THEN
        RAISE EXCEPTION 'no ticket: tenant' USING ERRCODE = '28000';
    END IF;

    mint.scopes := ARRAY(SELECT DISTINCT rs.scope FROM auth.role_scopes rs JOIN auth.scopes s ON s.name = rs.scope
                         WHERE rs.role = ANY (mint.roles) AND s.realm = CASE WHEN home = nil THEN 'platform' ELSE 'tenant' END
                         ORDER BY 1);
    IF home = nil AND cardinality(mint.scopes) = 0 THEN
        RAISE EXCEPTION 'no ticket: tenant' USING ERRCODE = '28000';
    END IF;

    SELECT u.id, u.status, u.display_name, u.email INTO person FROM auth.users u
        WHERE u.tenant_id = home AND u.issuer = mint.issuer AND u.subject = mint.subject;
    IF NOT FOUND THEN
        INSERT INTO auth.users (tenant_id, id, issuer, subject, display_name, email)
            VALUES (home, authz.uuid_v7(), mint.issuer, mint.subject, left(mint.display_name, 200), left(mint.email, 320))
            ON CONFLICT DO NOTHING;     -- another replica was faster
        SELECT u.id, u.status, u.display_name, u.email INTO STRICT person FROM auth.users u
            WHERE u.tenant_id = home AND u.issuer = mint.issuer AND u.subject = mint.subject;
    ELSIF (person.display_name, person.email) IS DISTINCT FROM (left(mint.display_name, 200), left(mint.email, 320)) THEN
        UPDATE auth.users u SET display_name = left(mint.display_name, 200), email = left(mint.email, 320), updated_at = now()
            WHERE u.tenant_id = home AND u.id = person.id;
    END IF;
    IF (person.status = 'active') IS NOT TRUE THEN
        RAISE EXCEPTION 'no ticket: user' USING ERRCODE = '28000';
    END IF;

    hashed := ext.digest(convert_to(length(mint.issuer) || ':' || mint.issuer || mint.token_id, 'UTF8'), 'sha256');
    SELECT s.id, s.user_id, s.revoked_at, s.expires_at, s.last_seen_at INTO session FROM auth.sessions s
        WHERE s.tenant_id = home AND s.token_hash = hashed;
    IF NOT FOUND THEN
        INSERT INTO auth.sessions (tenant_id, id, user_id, token_hash, roles, expires_at)
            VALUES (home, authz.uuid_v7(), person.id, hashed, mint.roles, mint.token_expires_at)
            ON CONFLICT DO NOTHING;
        SELECT s.id, s.user_id, s.revoked_at, s.expires_at, s.last_seen_at INTO STRICT session FROM auth.sessions s
            WHERE s.tenant_id = home AND s.token_hash = hashed;
    ELSIF session.last_seen_at < clock_timestamp() - interval '60 s' THEN
        UPDATE auth.sessions s SET last_seen_at = clock_timestamp(), roles = mint.roles WHERE s.tenant_id = home AND s.id = session.id;
    END IF;
    IF (session.user_id = person.id AND session.revoked_at IS NULL AND session.expires_at > clock_timestamp()) IS NOT TRUE THEN
        RAISE EXCEPTION 'no ticket: session' USING ERRCODE = '28000';
    END IF;

    mint.tenant_id := nullif(home, nil);
    mint.user_id := person.id;
    mint.session_id := session.id;
    mint.expires_at := least(clock_timestamp() + interval '60 s', session.expires_at, mint.token_expires_at);
    c := ROW('user', mint.tenant_id, mint.user_id, mint.session_id, mint.scopes, mint.expires_at, NULL, NULL, NULL, NULL)::authz.claims;
    mint.ticket := authz.sign(c);
END $$;

-- A ticket for a background job: only jobs.claim() and jobs.renew() may ask for one.
CREATE FUNCTION authz.mint_job(p_tenant_id uuid, p_user_id uuid, p_kind text, p_job_id uuid, p_document_id uuid, p_fence bigint, p_lease_hash text)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF num_nulls(p_tenant_id, p_user_id, p_kind, p_job_id, p_document_id, p_fence, p_lease_hash) <> 0 THEN
        RAISE EXCEPTION 'no ticket: job' USING ERRCODE = '28000';
    END IF;
    RETURN authz.sign(ROW('job', p_tenant_id, p_user_id, NULL, ARRAY['job:' || p_kind], clock_timestamp() + interval '60 s',
                          p_job_id, p_document_id, p_fence, p_lease_hash)::authz.claims);
END $$;

-- Sign with a new key from now on; keys that no living ticket can name are dropped. For operators, as cordon_owner.
CREATE FUNCTION authz.rotate_ticket_key() RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new_kid  integer;
BEGIN
    SELECT coalesce(max(t.kid), 0) % 99999 + 1 INTO new_kid FROM authz.ticket_keys t;
    DELETE FROM authz.ticket_keys t WHERE t.retired_at < now() - interval '1 hour';
    UPDATE authz.ticket_keys t SET retired_at = now() WHERE t.retired_at IS NULL;
    INSERT INTO authz.ticket_keys (kid, secret) VALUES (new_kid, ext.gen_random_bytes(32));
    RETURN new_kid;
END $$;

GRANT EXECUTE ON FUNCTION authz.mint(text, text, text, timestamptz, text, text[], text, text) TO cordon_auth;
GRANT EXECUTE ON FUNCTION authz.mint_job(uuid, uuid, text, uuid, uuid, bigint, text) TO cordon_jobs_definer;
GRANT EXECUTE ON FUNCTION authz.check(text) TO cordon_audit_definer;
GRANT EXECUTE ON FUNCTION authz.rotate_ticket_key() TO cordon_owner;
GRANT EXECUTE ON FUNCTION authz.enter(text) TO cordon_auth, cordon_ingest, cordon_query, cordon_audit_reader;
GRANT EXECUTE ON FUNCTION authz.current_claims(), authz.tenant(), authz.may(text), authz.user_id(), authz.session_id(), authz.job_document()
    TO cordon_auth, cordon_ingest, cordon_query, cordon_audit_reader, cordon_jobs_definer, cordon_keys_definer, cordon_audit_definer;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA authz FROM cordon_authz_definer;

------------------------------------------------------------------------------------------------- policies and grants

ALTER TABLE authz.ticket_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE authz.ticket_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON authz.ticket_keys TO cordon_authz_definer USING (true) WITH CHECK (true);
SELECT authz.rotate_ticket_key();

ALTER TABLE auth.tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON auth.tenants FOR SELECT TO cordon_authz_definer, cordon_jobs_definer USING (true);
CREATE POLICY auth_reads ON auth.tenants FOR SELECT TO cordon_auth
    USING (id = (SELECT authz.tenant())
           OR (id <> '00000000-0000-0000-0000-000000000000' AND (SELECT authz.may('tenants:manage'))));
CREATE POLICY auth_creates ON auth.tenants FOR INSERT TO cordon_auth
    WITH CHECK (id <> '00000000-0000-0000-0000-000000000000' AND (SELECT authz.may('tenants:manage')));
CREATE POLICY auth_changes ON auth.tenants FOR UPDATE TO cordon_auth
    USING (id <> '00000000-0000-0000-0000-000000000000' AND (SELECT authz.may('tenants:manage')));
GRANT SELECT, INSERT (id, slug, name, kms_key_id), UPDATE (name, status, kms_key_id, updated_at) ON auth.tenants TO cordon_auth;
GRANT SELECT (id, status) ON auth.tenants TO cordon_jobs_definer;

ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.users FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON auth.users TO cordon_authz_definer USING (true) WITH CHECK (true);
CREATE POLICY auth_reads ON auth.users FOR SELECT TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (id = (SELECT authz.user_id()) OR (SELECT authz.may('users:manage'))));
CREATE POLICY auth_changes ON auth.users FOR UPDATE TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')));
GRANT SELECT, UPDATE (status, updated_at) ON auth.users TO cordon_auth;

ALTER TABLE auth.sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON auth.sessions TO cordon_authz_definer USING (true) WITH CHECK (true);
CREATE POLICY auth_reads ON auth.sessions FOR SELECT TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (user_id = (SELECT authz.user_id()) OR (SELECT authz.may('users:manage'))));
CREATE POLICY auth_changes ON auth.sessions FOR UPDATE TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (user_id = (SELECT authz.user_id()) OR (SELECT authz.may('users:manage'))));
GRANT SELECT (tenant_id, id, user_id, roles, created_at, last_seen_at, expires_at, revoked_at, revoked_reason),
    UPDATE (revoked_at, revoked_reason) ON auth.sessions TO cordon_auth;

GRANT SELECT ON auth.scopes, auth.role_scopes TO cordon_auth;

RESET ROLE;
