-- Who may do what, as data: roles and their scopes, a tenant's own roles, labels on documents and who may see them,
-- users that are invited, API keys, break-glass. The database reads these when it makes a ticket and again when a
-- statement meets a row; no process decides any of it. Functions that are replaced keep their old form under another
-- name for the way back.

SET LOCAL ROLE cordon_owner;

------------------------------------------------------------------------------------------------- roles and scopes

-- What a release brings is on record as the release: the rows below, as those of 0002, write no events.
ALTER TABLE auth.scopes DISABLE TRIGGER audit;
ALTER TABLE auth.role_scopes DISABLE TRIGGER audit;

ALTER TABLE auth.scopes ADD COLUMN is_phi boolean NOT NULL DEFAULT false;      -- needs several factors where the deployment says so
UPDATE auth.scopes SET is_phi = true WHERE name IN ('documents:read', 'documents:write', 'query');
ALTER TABLE auth.scopes ADD COLUMN needs_step_up boolean NOT NULL DEFAULT false;     -- needs a login of a moment ago
INSERT INTO auth.scopes (name, realm, needs_step_up) VALUES ('breakglass:request', 'tenant', true), ('breakglass:review', 'tenant', false);

CREATE TABLE auth.roles (
    role         text PRIMARY KEY CHECK (role ~ '^[a-z][a-z_]{0,63}$'),
    realm        text NOT NULL CHECK (realm IN ('tenant', 'platform')),
    is_service   boolean NOT NULL DEFAULT false,        -- for machines: never asked for a second factor, never given to a person by us
    description  text NOT NULL
);
INSERT INTO auth.roles (role, realm, is_service, description) VALUES
    ('admin',          'tenant',   false, 'Works with documents; manages users, roles, labels and keys of the tenant.'),
    ('clinician',      'tenant',   false, 'Works with documents; may break glass.'),
    ('case_worker',    'tenant',   false, 'Works with documents; may break glass.'),
    ('reviewer',       'tenant',   false, 'Reads documents and asks questions.'),
    ('auditor',        'tenant',   false, 'Reads the audit log; reviews broken glass.'),
    ('service',        'tenant',   true,  'A machine that works with documents.'),
    ('platform_admin', 'platform', false, 'Manages tenants; sees no document.');
INSERT INTO auth.role_scopes (role, scope) VALUES
    ('admin', 'breakglass:request'), ('clinician', 'breakglass:request'), ('case_worker', 'breakglass:request'), ('auditor', 'breakglass:review');
ALTER TABLE auth.role_scopes ADD CONSTRAINT role_scopes_role FOREIGN KEY (role) REFERENCES auth.roles;
ALTER TABLE auth.scopes ENABLE ALWAYS TRIGGER audit;
ALTER TABLE auth.role_scopes ENABLE ALWAYS TRIGGER audit;

-- A tenant's own roles: scopes of tenants only, and only those that their maker holds (the policies below).
CREATE TABLE auth.custom_roles (
    tenant_id    uuid NOT NULL REFERENCES auth.tenants,
    role         text NOT NULL CHECK (role ~ '^[a-z][a-z_]{0,63}$'),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, role)
);
CREATE TABLE auth.custom_role_scopes (
    tenant_id  uuid NOT NULL,
    role       text NOT NULL,
    scope      text NOT NULL,
    realm      text NOT NULL DEFAULT 'tenant' CHECK (realm = 'tenant'),
    PRIMARY KEY (tenant_id, role, scope),
    FOREIGN KEY (tenant_id, role) REFERENCES auth.custom_roles ON DELETE CASCADE,
    FOREIGN KEY (scope, realm) REFERENCES auth.scopes (name, realm)
);

------------------------------------------------------------------------------------------------- tenants and users

ALTER TABLE auth.tenants
    ADD COLUMN provisions_users boolean NOT NULL DEFAULT true,     -- a first token makes the user; otherwise an invitation must wait
    ADD COLUMN roles_from text NOT NULL DEFAULT 'both' CHECK (roles_from IN ('token', 'assigned', 'both'));

-- Names and addresses are ciphertext made by auth; the index finds an address without telling it, in its tenant only.
ALTER TABLE auth.users
    DROP COLUMN display_name, DROP COLUMN email,
    ADD COLUMN name_enc bytea CHECK (octet_length(name_enc) <= 1024),
    ADD COLUMN email_enc bytea CHECK (octet_length(email_enc) <= 1024),
    ADD COLUMN email_index bytea CHECK (octet_length(email_index) = 32),
    ADD COLUMN profile_index bytea CHECK (octet_length(profile_index) = 32),
    ALTER COLUMN issuer DROP NOT NULL,
    ALTER COLUMN subject DROP NOT NULL,
    DROP CONSTRAINT users_status_check,
    ADD CONSTRAINT users_status_check CHECK (status IN ('invited', 'active', 'disabled', 'deleted')),
    ADD CONSTRAINT users_identity_check CHECK ((issuer IS NULL) = (subject IS NULL) AND (status <> 'active' OR subject IS NOT NULL));
CREATE UNIQUE INDEX users_email ON auth.users (tenant_id, email_index) WHERE status <> 'deleted';

CREATE TABLE auth.user_roles (
    tenant_id   uuid NOT NULL,
    user_id     uuid NOT NULL,
    role        text NOT NULL CHECK (role ~ '^[a-z][a-z_]{0,63}$'),
    granted_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id, role),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id)
);

------------------------------------------------------------------------------------------------- labels

-- Those of the nil tenant are everybody's. A labelled document is seen by those whom a grant names, for every label of
-- it, and by nobody else.
CREATE TABLE auth.labels (
    tenant_id    uuid NOT NULL REFERENCES auth.tenants,
    label        text NOT NULL CHECK (label ~ '^[a-z][a-z0-9_]{0,31}$'),
    description  text NOT NULL DEFAULT '' CHECK (length(description) <= 200),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, label)
);
INSERT INTO auth.labels (tenant_id, label, description) VALUES
    ('00000000-0000-0000-0000-000000000000', 'part2',         'Substance use disorder records (42 CFR Part 2).'),
    ('00000000-0000-0000-0000-000000000000', 'psychotherapy', 'Psychotherapy notes (45 CFR 164.501).'),
    ('00000000-0000-0000-0000-000000000000', 'vip',           'People whom curiosity would look up.');

CREATE TABLE auth.label_grants (
    tenant_id   uuid NOT NULL REFERENCES auth.tenants,
    id          uuid NOT NULL,
    label       text NOT NULL,
    role        text CHECK (role ~ '^[a-z][a-z_]{0,63}$'),
    user_id     uuid,
    basis       text NOT NULL CHECK (basis IN ('consent', 'need_to_know')),
    expires_at  timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id),
    CHECK (num_nonnulls(role, user_id) = 1),
    CHECK (basis <> 'consent' OR expires_at IS NOT NULL)        -- consent ends
);
CREATE INDEX label_grants_live ON auth.label_grants (tenant_id) WHERE revoked_at IS NULL;
CREATE INDEX documents_labelled ON app.documents (tenant_id) WHERE labels <> '{}';

------------------------------------------------------------------------------------------------- API keys

-- cdn_<prefix>_<256 bits>: the prefix finds the row, the secret is here as a hash only. A key acts as a user of its own.
CREATE TABLE auth.api_keys (
    tenant_id     uuid NOT NULL,
    id            uuid NOT NULL,
    user_id       uuid NOT NULL,
    prefix        text NOT NULL UNIQUE CHECK (prefix ~ '^[a-z0-9]{12}$'),
    secret_hash   bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    name          text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$'),
    scopes        text[] NOT NULL CHECK (cardinality(scopes) > 0),
    created_by    uuid NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL CHECK (expires_at <= created_at + interval '366 days'),
    last_used_at  timestamptz,
    revoked_at    timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id),
    FOREIGN KEY (tenant_id, created_by) REFERENCES auth.users (tenant_id, id)
);

------------------------------------------------------------------------------------------------- break-glass

-- Access to what labels hide, for one person, narrow and short (45 CFR 164.312(a)(2)(ii)). The reason's text is ciphertext.
CREATE TABLE auth.break_glass (
    tenant_id     uuid NOT NULL,
    id            uuid NOT NULL,
    user_id       uuid NOT NULL,
    reason_code   text NOT NULL CHECK (reason_code IN ('emergency', 'safety', 'legal', 'other')),
    reason_enc    bytea NOT NULL CHECK (octet_length(reason_enc) <= 4096),
    labels        text[] NOT NULL CHECK (cardinality(labels) <= 8),
    document_ids  uuid[] NOT NULL CHECK (cardinality(document_ids) <= 16),
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL CHECK (expires_at <= created_at + interval '4 hours'),
    ended_at      timestamptz,
    reviewed_at   timestamptz,
    reviewed_by   uuid,
    finding       text CHECK (finding IN ('justified', 'unjustified')),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth.users (tenant_id, id),
    FOREIGN KEY (tenant_id, reviewed_by) REFERENCES auth.users (tenant_id, id),
    CHECK (cardinality(labels) + cardinality(document_ids) > 0),
    CHECK (num_nulls(reviewed_at, reviewed_by, finding) IN (0, 3)),
    CHECK (reviewed_by <> user_id)
);
-- An unreviewed grant blocks the next.
CREATE UNIQUE INDEX break_glass_unreviewed ON auth.break_glass (tenant_id, user_id) WHERE reviewed_at IS NULL;

------------------------------------------------------------------------------------------------- definer functions

ALTER TYPE authz.claims ADD ATTRIBUTE labels text[], ADD ATTRIBUTE grant_id uuid, ADD ATTRIBUTE grant_documents uuid[];

GRANT SELECT ON auth.roles, auth.custom_roles, auth.custom_role_scopes, auth.user_roles, auth.labels, auth.label_grants, auth.break_glass
    TO cordon_authz_definer;
GRANT SELECT, UPDATE (last_used_at) ON auth.api_keys TO cordon_authz_definer;
GRANT UPDATE (issuer, subject, status, name_enc, email_enc, email_index, profile_index) ON auth.users TO cordon_authz_definer;
GRANT USAGE ON SCHEMA app TO cordon_authz_definer;
GRANT SELECT (tenant_id, id, labels, bytes, status) ON app.documents TO cordon_authz_definer;
CREATE POLICY authz_definer_reads ON app.documents FOR SELECT TO cordon_authz_definer USING (true);

GRANT CREATE ON SCHEMA authz TO cordon_authz_definer;
RESET ROLE;
SET LOCAL ROLE cordon_authz_definer;

ALTER FUNCTION authz.mint(text, text, text, timestamptz, text, text[], text, text) RENAME TO mint_0002;
ALTER FUNCTION authz.mint_job(uuid, uuid, text, uuid, uuid, bigint, text) RENAME TO mint_job_0002;
REVOKE EXECUTE ON FUNCTION authz.mint_0002(text, text, text, timestamptz, text, text[], text, text) FROM cordon_auth;
REVOKE EXECUTE ON FUNCTION authz.mint_job_0002(uuid, uuid, text, uuid, uuid, bigint, text) FROM cordon_jobs_definer;

CREATE FUNCTION authz.mint_job(p_tenant_id uuid, p_user_id uuid, p_kind text, p_job_id uuid, p_document_id uuid, p_fence bigint, p_lease_hash text)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF num_nulls(p_tenant_id, p_user_id, p_kind, p_job_id, p_document_id, p_fence, p_lease_hash) <> 0 THEN
        RAISE EXCEPTION 'no ticket: job' USING ERRCODE = '28000';
    END IF;
    RETURN authz.sign(ROW('job', p_tenant_id, p_user_id, NULL, ARRAY['job:' || p_kind], clock_timestamp() + interval '60 s',
                          p_job_id, p_document_id, p_fence, p_lease_hash, NULL, NULL, NULL)::authz.claims);
END $$;

-- What these roles may do in this tenant (nil: on the platform). In PL/pgSQL, which keeps its plan: 0.1 ms instead of 1.7.
CREATE FUNCTION authz.scopes_of(p_home uuid, p_roles text[]) RETURNS TABLE (scope text, is_phi boolean, is_service boolean, needs_step_up boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT rs.scope, s.is_phi, r.is_service, s.needs_step_up
        FROM auth.roles r JOIN auth.role_scopes rs ON rs.role = r.role JOIN auth.scopes s ON s.name = rs.scope
        WHERE r.role = ANY (p_roles)
          AND s.realm = CASE WHEN p_home = '00000000-0000-0000-0000-000000000000' THEN 'platform' ELSE 'tenant' END
    UNION ALL
    SELECT cs.scope, s.is_phi, false, s.needs_step_up
        FROM auth.custom_role_scopes cs JOIN auth.scopes s ON s.name = cs.scope
        WHERE cs.tenant_id = p_home AND cs.role = ANY (p_roles);
END $$;

-- May this ticket's holder give the role to somebody? Only what they hold themselves, and nothing that is for machines.
CREATE FUNCTION authz.may_grant(p_role text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(authz.tenant() IS NOT NULL AND authz.may('users:manage')
        AND (EXISTS (SELECT FROM auth.roles r WHERE r.role = p_role AND r.realm = 'tenant' AND NOT r.is_service)
             OR EXISTS (SELECT FROM auth.custom_roles c WHERE c.tenant_id = authz.tenant() AND c.role = p_role))
        AND NOT EXISTS (SELECT FROM authz.scopes_of(authz.tenant(), ARRAY[p_role]) s WHERE authz.may(s.scope) IS NOT TRUE), false)
$$;

-- An address in its tenant: the same address in two tenants does not look the same.
CREATE FUNCTION authz.email_index(p_home uuid, p_blind bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(p_blind || uuid_send(p_home))
$$;

-- The ticket of one whose tenant, user and session have been found to be good. What hides behind labels opens by a
-- grant of the label, or by broken glass, whose id the ticket then carries; it ends with the first of these.
CREATE FUNCTION authz.issue(p_home uuid, p_user uuid, p_session uuid, p_roles text[], p_scopes text[], p_until timestamptz,
                            OUT ticket text, OUT expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    seen   text[];
    ends   timestamptz;
    glass  record;
    c      authz.claims;
BEGIN
    SELECT array_agg(DISTINCT g.label), min(g.expires_at) INTO seen, ends FROM auth.label_grants g
        WHERE g.tenant_id = p_home AND g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > clock_timestamp())
          AND (g.user_id = p_user OR g.role = ANY (p_roles));
    SELECT b.id, b.labels, b.document_ids, b.expires_at INTO glass FROM auth.break_glass b
        WHERE b.tenant_id = p_home AND b.user_id = p_user AND b.ended_at IS NULL AND b.reviewed_at IS NULL AND b.expires_at > clock_timestamp();
    issue.expires_at := least(clock_timestamp() + interval '60 s', p_until, ends, glass.expires_at);
    c.kind := 'user';
    c.tenant_id := nullif(p_home, '00000000-0000-0000-0000-000000000000');
    c.user_id := p_user;
    c.session_id := p_session;
    c.scopes := p_scopes;
    c.expires_at := issue.expires_at;
    c.labels := nullif(coalesce(seen, '{}') || coalesce(glass.labels, '{}'), '{}');
    c.grant_id := glass.id;
    c.grant_documents := nullif(glass.document_ids, '{}');
    issue.ticket := authz.sign(c);
END $$;

-- A ticket for the bearer of a token that auth has verified. tenants: those that its issuer may speak for, by slug or
-- id; '*' every one but the platform. is_strong: several factors, or none are asked for; is_fresh: and a moment ago. Scopes
-- that need it are withheld without. Makes the user, where the tenant lets a token do so, or takes up the invitation of the verified address;
-- makes the session. Refuses with 28000 an unknown or suspended tenant, another issuer's tenant, a disabled or unknown
-- user, a revoked or expired session, and a token id that was somebody else's.
CREATE FUNCTION authz.admit(issuer text, subject text, token_id text, token_expires_at timestamptz, tenant text, tenants text[], roles text[],
                            is_strong boolean, is_fresh boolean, is_email_verified boolean, profile_blind bytea, name_enc bytea, email_enc bytea, email_blind bytea,
                            OUT ticket text, OUT tenant_id uuid, OUT user_id uuid, OUT session_id uuid, OUT scopes text[], OUT withheld text[],
                            OUT expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    nil        CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    home       record;
    person     record;
    session    record;
    acts       text[];              -- the roles that count
    address    bytea;
    hashed     bytea;
BEGIN
    IF (length(admit.issuer) BETWEEN 1 AND 512) IS NOT TRUE OR (length(admit.subject) BETWEEN 1 AND 512) IS NOT TRUE
       OR (length(admit.token_id) BETWEEN 1 AND 512) IS NOT TRUE OR admit.roles IS NULL
       OR admit.issuer LIKE 'urn:cordon:%' OR (admit.token_expires_at > clock_timestamp()) IS NOT TRUE THEN
        RAISE EXCEPTION 'no ticket: token' USING ERRCODE = '28000';
    END IF;

    SELECT t.id, t.slug, t.provisions_users, t.roles_from INTO home FROM auth.tenants t
        WHERE t.status = 'active' AND CASE
            WHEN admit.tenant IS NULL THEN t.id = nil
            WHEN admit.tenant ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' THEN t.id = admit.tenant::uuid AND t.id <> nil
            ELSE t.slug = admit.tenant AND t.id <> nil END;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no ticket: tenant' USING ERRCODE = '28000';
    END IF;
    IF (home.slug = ANY (admit.tenants) OR home.id::text = ANY (admit.tenants) OR (home.id <> nil AND '*' = ANY (admit.tenants))) IS NOT TRUE THEN
        RAISE EXCEPTION 'no ticket: issuer' USING ERRCODE = '28000';
    END IF;

    SELECT u.id, u.status, u.profile_index INTO person FROM auth.users u
        WHERE u.tenant_id = home.id AND u.issuer = admit.issuer AND u.subject = admit.subject;
    address := authz.email_index(home.id, admit.email_blind);
    IF NOT FOUND AND admit.is_email_verified AND address IS NOT NULL THEN
        UPDATE auth.users u SET issuer = admit.issuer, subject = admit.subject, status = 'active', updated_at = now(),
                                name_enc = coalesce(admit.name_enc, u.name_enc), email_enc = admit.email_enc, profile_index = admit.profile_blind
            WHERE u.tenant_id = home.id AND u.email_index = address AND u.status = 'invited' AND u.subject IS NULL
            RETURNING u.id, u.status, u.profile_index INTO person;
    END IF;
    IF person.id IS NULL THEN
        IF home.provisions_users IS NOT TRUE THEN
            RAISE EXCEPTION 'no ticket: user' USING ERRCODE = '28000';
        END IF;
        -- the platform's own row is for those who have a role there
        IF home.id = nil AND NOT EXISTS (SELECT FROM authz.scopes_of(nil, admit.roles)) THEN
            RAISE EXCEPTION 'no ticket: tenant' USING ERRCODE = '28000';
        END IF;
        IF EXISTS (SELECT FROM auth.users u WHERE u.tenant_id = home.id AND u.email_index = address AND u.status <> 'deleted') THEN
            address := NULL;        -- somebody else's: one address, one user
        END IF;
        INSERT INTO auth.users (tenant_id, id, issuer, subject, name_enc, email_enc, email_index, profile_index)
            VALUES (home.id, authz.uuid_v7(), admit.issuer, admit.subject, admit.name_enc,
                    CASE WHEN address IS NOT NULL THEN admit.email_enc END, address, admit.profile_blind)
            ON CONFLICT DO NOTHING;     -- another replica was faster
        SELECT u.id, u.status, u.profile_index INTO STRICT person FROM auth.users u
            WHERE u.tenant_id = home.id AND u.issuer = admit.issuer AND u.subject = admit.subject;
    ELSIF person.profile_index IS DISTINCT FROM admit.profile_blind AND person.status = 'active' THEN
        IF EXISTS (SELECT FROM auth.users u WHERE u.tenant_id = home.id AND u.email_index = address AND u.status <> 'deleted' AND u.id <> person.id) THEN
            address := NULL;
        END IF;
        UPDATE auth.users u SET name_enc = admit.name_enc, email_enc = CASE WHEN address IS NOT NULL THEN admit.email_enc END,
                                email_index = address, profile_index = admit.profile_blind, updated_at = now()
            WHERE u.tenant_id = home.id AND u.id = person.id;
    END IF;
    IF (person.status = 'active') IS NOT TRUE THEN
        RAISE EXCEPTION 'no ticket: user' USING ERRCODE = '28000';
    END IF;

    acts := CASE WHEN home.roles_from = 'assigned' THEN '{}' ELSE admit.roles END
         || CASE WHEN home.roles_from = 'token' THEN '{}'
                 ELSE ARRAY(SELECT r.role FROM auth.user_roles r WHERE r.tenant_id = home.id AND r.user_id = person.id) END;
    SELECT array_agg(DISTINCT s.scope ORDER BY s.scope) FILTER (WHERE s.is_given), array_agg(DISTINCT s.scope ORDER BY s.scope)
        INTO admit.scopes, admit.withheld
        FROM (SELECT o.scope, (NOT o.is_phi OR o.is_service OR admit.is_strong) AND (NOT o.needs_step_up OR admit.is_fresh) AS is_given
              FROM authz.scopes_of(home.id, acts) o) s;
    admit.scopes := coalesce(admit.scopes, '{}');
    admit.withheld := ARRAY(SELECT w FROM unnest(admit.withheld) w WHERE w <> ALL (admit.scopes));
    IF home.id = nil AND cardinality(admit.scopes) = 0 THEN
        RAISE EXCEPTION 'no ticket: tenant' USING ERRCODE = '28000';
    END IF;

    hashed := ext.digest(convert_to(length(admit.issuer) || ':' || admit.issuer || admit.token_id, 'UTF8'), 'sha256');
    SELECT s.id, s.user_id, s.revoked_at, s.expires_at, s.last_seen_at INTO session FROM auth.sessions s
        WHERE s.tenant_id = home.id AND s.token_hash = hashed;
    IF NOT FOUND THEN
        INSERT INTO auth.sessions (tenant_id, id, user_id, token_hash, roles, expires_at)
            VALUES (home.id, authz.uuid_v7(), person.id, hashed, acts, admit.token_expires_at)
            ON CONFLICT DO NOTHING;
        SELECT s.id, s.user_id, s.revoked_at, s.expires_at, s.last_seen_at INTO STRICT session FROM auth.sessions s
            WHERE s.tenant_id = home.id AND s.token_hash = hashed;
    ELSIF session.last_seen_at < clock_timestamp() - interval '60 s' THEN
        UPDATE auth.sessions s SET last_seen_at = clock_timestamp(), roles = acts WHERE s.tenant_id = home.id AND s.id = session.id;
    END IF;
    IF (session.user_id = person.id AND session.revoked_at IS NULL AND session.expires_at > clock_timestamp()) IS NOT TRUE THEN
        RAISE EXCEPTION 'no ticket: session' USING ERRCODE = '28000';
    END IF;

    admit.tenant_id := nullif(home.id, nil);
    admit.user_id := person.id;
    admit.session_id := session.id;
    SELECT i.ticket, i.expires_at INTO admit.ticket, admit.expires_at
        FROM authz.issue(home.id, person.id, session.id, acts, admit.scopes, least(session.expires_at, admit.token_expires_at)) i;
END $$;

-- The same without an issuer's word: for operators and tests. No process may call it.
CREATE FUNCTION authz.mint(issuer text, subject text, token_id text, token_expires_at timestamptz, tenant text, roles text[],
                           display_name text, email text,
                           OUT ticket text, OUT tenant_id uuid, OUT user_id uuid, OUT session_id uuid, OUT scopes text[],
                           OUT expires_at timestamptz)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.ticket, a.tenant_id, a.user_id, a.session_id, a.scopes, a.expires_at
        FROM authz.admit(issuer, subject, token_id, token_expires_at, tenant, '{*,cordon-platform}', roles, true, true, false, NULL, NULL, NULL, NULL) a
$$;

-- A ticket for the bearer of an API key: its scopes, and the labels that are granted to its own user.
CREATE FUNCTION authz.admit_key(prefix text, secret_hash bytea,
                                OUT ticket text, OUT tenant_id uuid, OUT user_id uuid, OUT session_id uuid, OUT scopes text[], OUT withheld text[],
                                OUT expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    k        record;
    session  record;
    hashed   bytea;
BEGIN
    SELECT a.tenant_id, a.id, a.user_id, a.secret_hash, a.scopes, a.expires_at, a.revoked_at, a.last_used_at, u.status AS user_status,
           t.status AS tenant_status INTO k
        FROM auth.api_keys a JOIN auth.users u ON u.tenant_id = a.tenant_id AND u.id = a.user_id JOIN auth.tenants t ON t.id = a.tenant_id
        WHERE a.prefix = admit_key.prefix;
    -- Both are hashes of 256 random bits, and hashed once more: where they differ tells nothing.
    IF NOT FOUND OR (sha256(k.secret_hash) = sha256(admit_key.secret_hash)) IS NOT TRUE THEN
        RAISE EXCEPTION 'no ticket: key' USING ERRCODE = '28000';
    END IF;
    IF (k.revoked_at IS NULL AND k.expires_at > clock_timestamp()) IS NOT TRUE THEN
        RAISE EXCEPTION 'no ticket: session' USING ERRCODE = '28000';
    END IF;
    IF (k.tenant_status = 'active') IS NOT TRUE THEN
        RAISE EXCEPTION 'no ticket: tenant' USING ERRCODE = '28000';
    END IF;
    IF (k.user_status = 'active') IS NOT TRUE THEN
        RAISE EXCEPTION 'no ticket: user' USING ERRCODE = '28000';
    END IF;
    hashed := ext.digest(convert_to('api-key:' || k.id, 'UTF8'), 'sha256');
    INSERT INTO auth.sessions (tenant_id, id, user_id, token_hash, roles, expires_at)
        VALUES (k.tenant_id, authz.uuid_v7(), k.user_id, hashed, '{}', k.expires_at) ON CONFLICT DO NOTHING;
    SELECT s.id, s.revoked_at INTO STRICT session FROM auth.sessions s WHERE s.tenant_id = k.tenant_id AND s.token_hash = hashed;
    IF session.revoked_at IS NOT NULL THEN
        RAISE EXCEPTION 'no ticket: session' USING ERRCODE = '28000';
    END IF;
    IF (k.last_used_at > clock_timestamp() - interval '60 s') IS NOT TRUE THEN
        UPDATE auth.api_keys a SET last_used_at = clock_timestamp() WHERE a.tenant_id = k.tenant_id AND a.id = k.id;
    END IF;
    admit_key.tenant_id := k.tenant_id;
    admit_key.user_id := k.user_id;
    admit_key.session_id := session.id;
    admit_key.scopes := ARRAY(SELECT s.name FROM auth.scopes s WHERE s.name = ANY (k.scopes) AND s.realm = 'tenant' AND NOT s.needs_step_up ORDER BY 1);
    admit_key.withheld := '{}';
    SELECT i.ticket, i.expires_at INTO admit_key.ticket, admit_key.expires_at
        FROM authz.issue(k.tenant_id, k.user_id, session.id, '{}', admit_key.scopes, k.expires_at) i;
END $$;

-- How much of everything a tenant has; NULLs when there is no such tenant.
CREATE FUNCTION authz.tenant_usage(p_tenant uuid, OUT users bigint, OUT documents bigint, OUT bytes bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF authz.may('tenants:manage') IS NOT TRUE THEN
        RAISE EXCEPTION 'tenants:manage is missing' USING ERRCODE = '42501';
    END IF;
    IF EXISTS (SELECT FROM auth.tenants t WHERE t.id = p_tenant AND t.id <> '00000000-0000-0000-0000-000000000000') THEN
        SELECT count(*) INTO tenant_usage.users FROM auth.users u WHERE u.tenant_id = p_tenant AND u.status = 'active';
        SELECT count(*), coalesce(sum(d.bytes), 0) INTO tenant_usage.documents, tenant_usage.bytes FROM app.documents d
            WHERE d.tenant_id = p_tenant AND d.status <> 'deleted';
    END IF;
END $$;

-- What policies ask about labels.
CREATE FUNCTION authz.labels() RETURNS text[] LANGUAGE sql STABLE PARALLEL RESTRICTED
    RETURN coalesce((authz.current_claims()).labels, '{}');
CREATE FUNCTION authz.grant_documents() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL RESTRICTED
    RETURN coalesce((authz.current_claims()).grant_documents, '{}');

-- The labelled documents of the ticket's tenant that its holder may not see: few, found by an index, asked once a statement.
CREATE FUNCTION authz.hidden_documents() RETURNS SETOF uuid
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims := authz.current_claims();
BEGIN
    RETURN QUERY SELECT d.id FROM app.documents d
        WHERE d.tenant_id = c.tenant_id AND d.labels <> '{}'
          AND (d.labels <@ coalesce(c.labels, '{}') OR d.id = ANY (coalesce(c.grant_documents, '{}'))) IS NOT TRUE;
END $$;

-- A document's labels are ones that its tenant has.
CREATE FUNCTION authz.check_labels() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF cardinality(NEW.labels) > 8 OR EXISTS (
            SELECT FROM unnest(NEW.labels) l WHERE NOT EXISTS (
                SELECT FROM auth.labels k WHERE k.label = l AND k.tenant_id IN (NEW.tenant_id, '00000000-0000-0000-0000-000000000000'))) THEN
        RAISE EXCEPTION 'document: a label that the tenant does not have' USING ERRCODE = '22023';
    END IF;
    NEW.labels := ARRAY(SELECT DISTINCT l FROM unnest(NEW.labels) l ORDER BY l);
    RETURN NEW;
END $$;

GRANT EXECUTE ON FUNCTION authz.mint_job(uuid, uuid, text, uuid, uuid, bigint, text) TO cordon_jobs_definer;
GRANT EXECUTE ON FUNCTION authz.admit(text, text, text, timestamptz, text, text[], text[], boolean, boolean, boolean, bytea, bytea, bytea, bytea),
    authz.admit_key(text, bytea), authz.may_grant(text), authz.email_index(uuid, bytea), authz.tenant_usage(uuid) TO cordon_auth;
GRANT EXECUTE ON FUNCTION authz.labels(), authz.grant_documents() TO cordon_auth, cordon_ingest, cordon_query;
GRANT EXECUTE ON FUNCTION authz.hidden_documents() TO cordon_query, cordon_keys_definer;
GRANT EXECUTE ON FUNCTION authz.check_labels() TO cordon_owner;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA authz FROM cordon_authz_definer;

------------------------------------------------------------------------------------------------- policies and grants

DO $$
DECLARE
    t  text;
BEGIN
    FOREACH t IN ARRAY ARRAY['custom_roles', 'custom_role_scopes', 'user_roles', 'labels', 'label_grants', 'api_keys', 'break_glass'] LOOP
        EXECUTE format('ALTER TABLE auth.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE auth.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY definer ON auth.%I TO cordon_authz_definer USING (true)', t);
    END LOOP;
END $$;

GRANT SELECT ON auth.roles TO cordon_auth;

CREATE POLICY auth_reads ON auth.custom_roles FOR SELECT TO cordon_auth USING (tenant_id = (SELECT authz.tenant()));
CREATE POLICY auth_adds ON auth.custom_roles FOR INSERT TO cordon_auth
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage'))
                AND NOT EXISTS (SELECT FROM auth.roles r WHERE r.role = custom_roles.role));
CREATE POLICY auth_removes ON auth.custom_roles FOR DELETE TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')));
GRANT SELECT, INSERT (tenant_id, role), DELETE ON auth.custom_roles TO cordon_auth;

CREATE POLICY auth_reads ON auth.custom_role_scopes FOR SELECT TO cordon_auth USING (tenant_id = (SELECT authz.tenant()));
CREATE POLICY auth_adds ON auth.custom_role_scopes FOR INSERT TO cordon_auth
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')) AND authz.may(scope));
CREATE POLICY auth_removes ON auth.custom_role_scopes FOR DELETE TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')));
GRANT SELECT, INSERT (tenant_id, role, scope), DELETE ON auth.custom_role_scopes TO cordon_auth;

CREATE POLICY auth_reads ON auth.user_roles FOR SELECT TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (user_id = (SELECT authz.user_id()) OR (SELECT authz.may('users:manage'))));
CREATE POLICY auth_adds ON auth.user_roles FOR INSERT TO cordon_auth
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND authz.may_grant(role));
CREATE POLICY auth_removes ON auth.user_roles FOR DELETE TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')));
GRANT SELECT, INSERT (tenant_id, user_id, role), DELETE ON auth.user_roles TO cordon_auth;

CREATE POLICY auth_reads ON auth.labels FOR SELECT TO cordon_auth
    USING (tenant_id IN ((SELECT authz.tenant()), '00000000-0000-0000-0000-000000000000'));
CREATE POLICY auth_adds ON auth.labels FOR INSERT TO cordon_auth
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')));
GRANT SELECT, INSERT (tenant_id, label, description) ON auth.labels TO cordon_auth;

-- Nobody opens a label for themselves.
CREATE POLICY auth_reads ON auth.label_grants FOR SELECT TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')));
CREATE POLICY auth_adds ON auth.label_grants FOR INSERT TO cordon_auth
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')) AND user_id IS DISTINCT FROM (SELECT authz.user_id())
                AND EXISTS (SELECT FROM auth.labels l WHERE l.label = label_grants.label));
CREATE POLICY auth_changes ON auth.label_grants FOR UPDATE TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')));
GRANT SELECT, INSERT (tenant_id, id, label, role, user_id, basis, expires_at), UPDATE (revoked_at) ON auth.label_grants TO cordon_auth;

CREATE POLICY auth_adds ON auth.users FOR INSERT TO cordon_auth
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage'))
                AND ((status = 'invited' AND issuer IS NULL) OR (status = 'active' AND issuer = 'urn:cordon:api-key')));
GRANT INSERT (tenant_id, id, issuer, subject, status, name_enc, email_enc, email_index) ON auth.users TO cordon_auth;
GRANT UPDATE (provisions_users, roles_from) ON auth.tenants TO cordon_auth;
CREATE POLICY auth_adjusts ON auth.tenants FOR UPDATE TO cordon_auth
    USING (id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')))
    WITH CHECK (id = (SELECT authz.tenant()));

CREATE POLICY auth_reads ON auth.api_keys FOR SELECT TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')));
CREATE POLICY auth_adds ON auth.api_keys FOR INSERT TO cordon_auth
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')) AND created_by = (SELECT authz.user_id())
                AND scopes <@ (SELECT (authz.current_claims()).scopes));
CREATE POLICY auth_changes ON auth.api_keys FOR UPDATE TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (SELECT authz.may('users:manage')));
GRANT SELECT (tenant_id, id, user_id, prefix, name, scopes, created_by, created_at, expires_at, last_used_at, revoked_at),
    INSERT (tenant_id, id, user_id, prefix, secret_hash, name, scopes, created_by, expires_at), UPDATE (revoked_at) ON auth.api_keys TO cordon_auth;

-- One's own, and those that one may review; nobody reviews their own (a CHECK, too).
CREATE POLICY auth_reads ON auth.break_glass FOR SELECT TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND (user_id = (SELECT authz.user_id()) OR (SELECT authz.may('breakglass:review'))));
CREATE POLICY auth_adds ON auth.break_glass FOR INSERT TO cordon_auth
    WITH CHECK (tenant_id = (SELECT authz.tenant()) AND user_id = (SELECT authz.user_id()) AND (SELECT authz.may('breakglass:request')));
CREATE POLICY auth_ends ON auth.break_glass FOR UPDATE TO cordon_auth
    USING (tenant_id = (SELECT authz.tenant()) AND reviewed_at IS NULL
           AND (user_id = (SELECT authz.user_id()) OR (SELECT authz.may('breakglass:review'))))
    WITH CHECK (tenant_id = (SELECT authz.tenant())
                AND (reviewed_by IS NULL OR (reviewed_by = (SELECT authz.user_id()) AND (SELECT authz.may('breakglass:review')))));
GRANT SELECT, INSERT (tenant_id, id, user_id, reason_code, reason_enc, labels, document_ids, expires_at),
    UPDATE (ended_at, reviewed_at, reviewed_by, finding) ON auth.break_glass TO cordon_auth;

------------------------------------------------------------------------------------------------- labels meet rows

CREATE TRIGGER check_labels BEFORE INSERT OR UPDATE OF labels ON app.documents FOR EACH ROW
    WHEN (NEW.labels <> '{}') EXECUTE FUNCTION authz.check_labels();
ALTER TABLE app.documents ENABLE ALWAYS TRIGGER check_labels;
GRANT UPDATE (labels) ON app.documents TO cordon_ingest;

CREATE POLICY query_labels ON app.documents AS RESTRICTIVE FOR SELECT TO cordon_query
    USING (labels = '{}' OR labels <@ (SELECT authz.labels()) OR id = ANY ((SELECT authz.grant_documents())::uuid[]));
-- A job works on its document whoever may read it, and an uploader finishes what he began.
CREATE POLICY ingest_labels ON app.documents AS RESTRICTIVE FOR SELECT TO cordon_ingest
    USING (labels = '{}' OR labels <@ (SELECT authz.labels()) OR id = ANY ((SELECT authz.grant_documents())::uuid[])
           OR id = (SELECT authz.job_document()) OR (status = 'processing' AND created_by = (SELECT authz.user_id())));
CREATE POLICY labels ON app.chunks AS RESTRICTIVE FOR SELECT TO cordon_query
    USING (document_id NOT IN (SELECT authz.hidden_documents()));
CREATE POLICY labels ON app.chunk_vectors AS RESTRICTIVE FOR SELECT TO cordon_query
    USING (document_id NOT IN (SELECT authz.hidden_documents()));
DO $$
DECLARE
    part  regclass;
BEGIN
    FOR part IN SELECT i.inhrelid::regclass FROM pg_inherits i WHERE i.inhparent = 'app.chunk_vectors'::regclass LOOP
        EXECUTE format('CREATE POLICY labels ON %s AS RESTRICTIVE FOR SELECT TO cordon_query '
                       'USING (document_id NOT IN (SELECT authz.hidden_documents()))', part);
    END LOOP;
END $$;
CREATE POLICY labels ON jobs.jobs AS RESTRICTIVE FOR SELECT TO cordon_query
    USING (document_id IS NULL OR document_id NOT IN (SELECT authz.hidden_documents()));

GRANT CREATE ON SCHEMA keys TO cordon_keys_definer;
RESET ROLE;
SET LOCAL ROLE cordon_keys_definer;

-- As before; and what has been labelled since it was found, or was found by mistake, keeps its key.
ALTER FUNCTION keys.open(uuid) RENAME TO open_0007;
REVOKE EXECUTE ON FUNCTION keys.open_0007(uuid) FROM cordon_query;
CREATE FUNCTION keys.open(event_id uuid) RETURNS TABLE (document_id uuid, version integer, wrapped bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    home   uuid := authz.tenant();      -- raises unless this transaction entered with the ticket below
    named  uuid[];
BEGIN
    SELECT l.document_ids INTO named FROM audit.audit_logs l
        WHERE l.event_id = open.event_id AND l.tenant_id = home AND l.kind = 'disclosure' AND l.outcome = 'success'
          AND l.ticket_digest = sha256(convert_to(current_setting('authz.ticket'), 'UTF8'))
          AND l.recorded_at > clock_timestamp() - interval '5 min';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'keys.open: no disclosure on record' USING ERRCODE = '42501';
    END IF;
    RETURN QUERY SELECT DISTINCT ON (k.document_id) k.document_id, k.version, k.wrapped
        FROM keys.document_keys k JOIN app.documents d ON d.tenant_id = k.tenant_id AND d.id = k.document_id
        WHERE k.tenant_id = home AND k.document_id = ANY (named) AND d.status <> 'deleted'
          AND k.document_id NOT IN (SELECT authz.hidden_documents())
        ORDER BY k.document_id, k.version DESC;
END $$;
GRANT EXECUTE ON FUNCTION keys.open(uuid) TO cordon_query;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA keys FROM cordon_keys_definer;

------------------------------------------------------------------------------------------------- on the record

GRANT CREATE ON SCHEMA audit TO cordon_audit_definer;
RESET ROLE;
SET LOCAL ROLE cordon_audit_definer;

-- TG_ARGV: what it is called, the columns that tell about it, and the one that names it.
CREATE FUNCTION audit.on_access() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r       jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
    detail  jsonb := (SELECT jsonb_object_agg(c, audit.code(r ->> c)) FROM unnest(string_to_array(TG_ARGV[1], ',')) c);
BEGIN
    IF TG_OP = 'UPDATE' AND audit.changed(to_jsonb(OLD), r, string_to_array(TG_ARGV[1], ',')) = '[]' THEN
        RETURN NULL;
    END IF;
    PERFORM audit.record(TG_ARGV[0] || CASE TG_OP WHEN 'INSERT' THEN '.create' WHEN 'UPDATE' THEN '.update' ELSE '.delete' END,
                         (r ->> 'tenant_id')::uuid, (r ->> TG_ARGV[2])::uuid, '{}', detail);
    RETURN NULL;
END $$;

-- As before, with the grant under which somebody reads what labels hide.
ALTER FUNCTION audit.claims(text[]) RENAME TO claims_0006;
REVOKE EXECUTE ON FUNCTION audit.claims_0006(text[]) FROM cordon_audit;
CREATE FUNCTION audit.claims(tickets text[])
RETURNS TABLE (ordinal integer, tenant_id uuid, user_id uuid, session_id uuid, job_id uuid, grant_id uuid, refused text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c  authz.claims;
BEGIN
    FOR i IN 1 .. cardinality(tickets) LOOP
        ordinal := i;
        c := NULL;
        tenant_id := NULL;
        refused := NULL;
        BEGIN
            c := authz.check(tickets[i]);
            tenant_id := coalesce(c.tenant_id, '00000000-0000-0000-0000-000000000000'::uuid);
        EXCEPTION WHEN invalid_authorization_specification THEN
            refused := SQLERRM;
        END;
        user_id := c.user_id;
        session_id := c.session_id;
        job_id := c.job_id;
        grant_id := c.grant_id;
        RETURN NEXT;
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION audit.claims(text[]) TO cordon_audit;

CREATE FUNCTION audit.on_user_access() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fields  jsonb;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM audit.record('user.create', NEW.tenant_id, NEW.id, '{}', jsonb_build_object('status', nullif(NEW.status, 'active')), NEW.id);
        RETURN NULL;
    END IF;
    fields := audit.changed(to_jsonb(OLD), to_jsonb(NEW), ARRAY['issuer', 'subject', 'name_enc', 'email_enc', 'status']);
    IF fields <> '[]' THEN
        PERFORM audit.record('user.update', NEW.tenant_id, NEW.id, '{}', jsonb_build_object('changed', fields, 'status', NEW.status), NEW.id);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION audit.on_tenant_access() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fields  jsonb := audit.changed(to_jsonb(OLD), to_jsonb(NEW), ARRAY['provisions_users', 'roles_from']);
BEGIN
    IF fields <> '[]' THEN
        PERFORM audit.record('tenant.update', NEW.id, NEW.id, '{}', jsonb_build_object('changed', fields, 'status', NEW.status));
    END IF;
    RETURN NULL;
END $$;
GRANT EXECUTE ON FUNCTION audit.on_access(), audit.on_user_access(), audit.on_tenant_access() TO cordon_owner;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA audit FROM cordon_audit_definer;

DROP TRIGGER audit ON auth.users;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION audit.on_user_access();
ALTER TABLE auth.users ENABLE ALWAYS TRIGGER audit;
CREATE TRIGGER audit_access AFTER UPDATE ON auth.tenants FOR EACH ROW EXECUTE FUNCTION audit.on_tenant_access();
ALTER TABLE auth.tenants ENABLE ALWAYS TRIGGER audit_access;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON auth.roles FOR EACH ROW EXECUTE FUNCTION audit.on_policy();
ALTER TABLE auth.roles ENABLE ALWAYS TRIGGER audit;
CREATE TRIGGER audit AFTER INSERT OR DELETE ON auth.custom_roles FOR EACH ROW EXECUTE FUNCTION audit.on_access('role', 'role', '');
ALTER TABLE auth.custom_roles ENABLE ALWAYS TRIGGER audit;
CREATE TRIGGER audit AFTER INSERT OR DELETE ON auth.custom_role_scopes FOR EACH ROW EXECUTE FUNCTION audit.on_access('role.scope', 'role,scope', '');
ALTER TABLE auth.custom_role_scopes ENABLE ALWAYS TRIGGER audit;
CREATE TRIGGER audit AFTER INSERT OR DELETE ON auth.user_roles FOR EACH ROW EXECUTE FUNCTION audit.on_access('user.role', 'role', 'user_id');
ALTER TABLE auth.user_roles ENABLE ALWAYS TRIGGER audit;
CREATE TRIGGER audit AFTER INSERT ON auth.labels FOR EACH ROW EXECUTE FUNCTION audit.on_access('label', 'label', '');
ALTER TABLE auth.labels ENABLE ALWAYS TRIGGER audit;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON auth.label_grants FOR EACH ROW
    EXECUTE FUNCTION audit.on_access('label.grant', 'label,role,user_id,basis,expires_at,revoked_at', 'id');
ALTER TABLE auth.label_grants ENABLE ALWAYS TRIGGER audit;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON auth.api_keys FOR EACH ROW
    EXECUTE FUNCTION audit.on_access('api_key', 'prefix,scopes,expires_at,revoked_at', 'id');
ALTER TABLE auth.api_keys ENABLE ALWAYS TRIGGER audit;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON auth.break_glass FOR EACH ROW
    EXECUTE FUNCTION audit.on_access('break_glass', 'user_id,reason_code,labels,document_ids,expires_at,ended_at,finding', 'id');
ALTER TABLE auth.break_glass ENABLE ALWAYS TRIGGER audit;

RESET ROLE;
