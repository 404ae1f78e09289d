-- Login from a browser: what a login under way and a browser's session need beyond auth.sessions (docs/adr/0016).
--
-- A browser holds a random secret in a cookie; here is its hash. admit_cookie() turns it into a ticket by way of admit(),
-- as a token is: the same people, roles, tenants and refusals. Every session, whatever credential it came by, is a row of
-- auth.sessions, and ends there: revoked_at is what edges ask for while they serve (ended_sessions()).

SET LOCAL ROLE cordon_owner;

------------------------------------------------------------------------------------------------- tables

-- A login between its beginning and its callback: used once, by the browser that began it, for ten minutes.
CREATE TABLE auth.login_attempts (
    state_hash    bytea PRIMARY KEY CHECK (octet_length(state_hash) = 32),
    browser_hash  bytea NOT NULL CHECK (octet_length(browser_hash) = 32),
    issuer        text NOT NULL CHECK (length(issuer) BETWEEN 1 AND 512),
    return_to     text NOT NULL CHECK (length(return_to) <= 512 AND return_to ~ '^/([^/\\].*)?$'),
    is_fresh      boolean NOT NULL,             -- an earlier login at the provider does not count
    expires_at    timestamptz NOT NULL DEFAULT now() + interval '10 min'
);
CREATE INDEX login_attempts_expiry ON auth.login_attempts (expires_at);

-- The half of a browser's session that a token would have brought along each time. The tokens are ciphertext made by auth.
CREATE TABLE auth.logins (
    tenant_id         uuid NOT NULL,
    session_id        uuid NOT NULL,
    cookie_hash       bytea NOT NULL UNIQUE CHECK (octet_length(cookie_hash) = 32),
    issuer            text NOT NULL CHECK (length(issuer) BETWEEN 1 AND 512),
    subject           text NOT NULL CHECK (length(subject) BETWEEN 1 AND 512),
    token_id          text NOT NULL CHECK (length(token_id) BETWEEN 1 AND 512),
    roles             text[] NOT NULL,          -- as the newest access token has them
    is_strong         boolean NOT NULL,
    authenticated_at  timestamptz NOT NULL,     -- when the person proved to the provider who they are
    idle_s            integer NOT NULL CHECK (idle_s BETWEEN 1 AND 86400),
    seen_at           timestamptz NOT NULL DEFAULT clock_timestamp(),      -- the newest activity, to a tenth of idle_s
    access_until      timestamptz NOT NULL,     -- until when the provider's word counts; then it is asked again
    refreshing_until  timestamptz NOT NULL DEFAULT '-infinity',            -- one replica asks at a time
    refresh_enc       bytea CHECK (octet_length(refresh_enc) <= 17000),
    id_token_enc      bytea CHECK (octet_length(id_token_enc) <= 17000),   -- for the provider's logout
    PRIMARY KEY (tenant_id, session_id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES auth.sessions (tenant_id, id)
);

DO $$
DECLARE
    t  text;
BEGIN
    FOREACH t IN ARRAY ARRAY['login_attempts', 'logins'] LOOP
        EXECUTE format('ALTER TABLE auth.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE auth.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY definer ON auth.%I TO cordon_authz_definer USING (true)', t);
    END LOOP;
END $$;
GRANT SELECT, INSERT, DELETE ON auth.login_attempts TO cordon_authz_definer;
GRANT SELECT, INSERT, UPDATE, DELETE ON auth.logins TO cordon_authz_definer;
GRANT UPDATE (revoked_at, revoked_reason) ON auth.sessions TO cordon_authz_definer;

-- People of the platform have sessions as well; authz.tenant() is NULL for them.
CREATE POLICY auth_reads_platform ON auth.sessions FOR SELECT TO cordon_auth
    USING (tenant_id = '00000000-0000-0000-0000-000000000000' AND (SELECT authz.tenant()) IS NULL AND user_id = (SELECT authz.user_id()));
CREATE POLICY auth_changes_platform ON auth.sessions FOR UPDATE TO cordon_auth
    USING (tenant_id = '00000000-0000-0000-0000-000000000000' AND (SELECT authz.tenant()) IS NULL AND user_id = (SELECT authz.user_id()));
CREATE POLICY auth_reads_platform ON auth.users FOR SELECT TO cordon_auth
    USING (tenant_id = '00000000-0000-0000-0000-000000000000' AND (SELECT authz.tenant()) IS NULL AND id = (SELECT authz.user_id()));
-- Times only, of sessions that the reader sees.
CREATE POLICY auth_reads ON auth.logins FOR SELECT TO cordon_auth
    USING (EXISTS (SELECT FROM auth.sessions s WHERE s.tenant_id = logins.tenant_id AND s.id = logins.session_id));
GRANT SELECT (tenant_id, session_id, authenticated_at, idle_s, seen_at) ON auth.logins TO cordon_auth;

------------------------------------------------------------------------------------------------- definer functions

GRANT CREATE ON SCHEMA authz TO cordon_authz_definer;
RESET ROLE;
SET LOCAL ROLE cordon_authz_definer;

CREATE FUNCTION authz.begin_login(p_state bytea, p_browser bytea, p_issuer text, p_return_to text, p_is_fresh boolean) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO auth.login_attempts (state_hash, browser_hash, issuer, return_to, is_fresh)
        VALUES (p_state, p_browser, p_issuer, p_return_to, p_is_fresh)
$$;

-- What a callback belongs to; nobody gets it twice. All NULL: to nothing, to something that is too old, or to another browser.
CREATE FUNCTION authz.take_login(p_state bytea, p_browser bytea, OUT issuer text, OUT return_to text, OUT is_fresh boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM auth.login_attempts a WHERE a.state_hash = p_state AND a.browser_hash = p_browser AND a.expires_at > clock_timestamp()
        RETURNING a.issuer, a.return_to, a.is_fresh INTO take_login.issuer, take_login.return_to, take_login.is_fresh;
END $$;

-- admit(), and a browser's session. token_expires_at is the end of the session, whatever happens.
CREATE FUNCTION authz.log_in(issuer text, subject text, token_id text, token_expires_at timestamptz, tenant text, tenants text[], roles text[],
                             is_strong boolean, is_fresh boolean, is_email_verified boolean, profile_blind bytea, name_enc bytea, email_enc bytea, email_blind bytea,
                             cookie_hash bytea, idle_s integer, authenticated_at timestamptz, access_until timestamptz, refresh_enc bytea, id_token_enc bytea,
                             OUT tenant_id uuid, OUT user_id uuid, OUT session_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF num_nulls(log_in.cookie_hash, log_in.idle_s, log_in.authenticated_at, log_in.access_until) <> 0 THEN
        RAISE EXCEPTION 'no ticket: token' USING ERRCODE = '28000';
    END IF;
    SELECT a.tenant_id, a.user_id, a.session_id INTO log_in.tenant_id, log_in.user_id, log_in.session_id
        FROM authz.admit(log_in.issuer, log_in.subject, log_in.token_id, log_in.token_expires_at, log_in.tenant, log_in.tenants, log_in.roles,
                         log_in.is_strong, log_in.is_fresh, log_in.is_email_verified, log_in.profile_blind, log_in.name_enc, log_in.email_enc, log_in.email_blind) a;
    INSERT INTO auth.logins (tenant_id, session_id, cookie_hash, issuer, subject, token_id, roles, is_strong, authenticated_at, idle_s,
                             access_until, refresh_enc, id_token_enc)
        VALUES (coalesce(log_in.tenant_id, '00000000-0000-0000-0000-000000000000'), log_in.session_id, log_in.cookie_hash, log_in.issuer,
                log_in.subject, log_in.token_id, log_in.roles, log_in.is_strong, log_in.authenticated_at, log_in.idle_s,
                log_in.access_until, log_in.refresh_enc, log_in.id_token_enc);
END $$;

-- Why a login is over by itself; NULL while it is not.
CREATE FUNCTION authz.login_end(l auth.logins, p_expires_at timestamptz) RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN p_expires_at <= clock_timestamp() THEN 'absolute'
                WHEN l.seen_at + l.idle_s * interval '1 s' <= clock_timestamp() THEN 'idle'
                WHEN l.access_until <= clock_timestamp() AND l.refresh_enc IS NULL THEN 'access' END
$$;

-- A ticket for the bearer of a browser's cookie. ended: the session is over, and why; that is recorded and committed, so it
-- is no exception. is_due: the provider must be asked again, by this caller (for 15 s, then by the next one); ticket is
-- NULL when its last word has run out. Raises as admit() does; 'cookie': nobody's.
CREATE FUNCTION authz.admit_cookie(p_cookie bytea, p_is_activity boolean, p_fresh_s integer,
                                   OUT ticket text, OUT tenant_id uuid, OUT user_id uuid, OUT session_id uuid, OUT scopes text[], OUT withheld text[],
                                   OUT expires_at timestamptz, OUT ended text, OUT is_due boolean, OUT issuer text, OUT refresh_enc bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    nil  CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    l    auth.logins;
    s    record;
BEGIN
    SELECT * INTO l FROM auth.logins i WHERE i.cookie_hash = p_cookie;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no ticket: cookie' USING ERRCODE = '28000';
    END IF;
    SELECT e.revoked_at, e.revoked_reason, e.expires_at, u.profile_index INTO STRICT s
        FROM auth.sessions e JOIN auth.users u ON u.tenant_id = e.tenant_id AND u.id = e.user_id
        WHERE e.tenant_id = l.tenant_id AND e.id = l.session_id;
    admit_cookie.is_due := false;
    admit_cookie.ended := CASE WHEN s.revoked_at IS NOT NULL THEN 'revoked' ELSE authz.login_end(l, s.expires_at) END;
    IF admit_cookie.ended IS NOT NULL THEN
        UPDATE auth.sessions e SET revoked_at = clock_timestamp(), revoked_reason = admit_cookie.ended
            WHERE e.tenant_id = l.tenant_id AND e.id = l.session_id AND e.revoked_at IS NULL;
        RETURN;
    END IF;
    IF l.access_until <= clock_timestamp() + interval '30 s' AND l.refresh_enc IS NOT NULL THEN
        UPDATE auth.logins i SET refreshing_until = clock_timestamp() + interval '15 s'
            WHERE i.tenant_id = l.tenant_id AND i.session_id = l.session_id AND i.refreshing_until <= clock_timestamp() AND i.access_until = l.access_until;
        admit_cookie.is_due := FOUND;
        admit_cookie.issuer := l.issuer;
        admit_cookie.refresh_enc := l.refresh_enc;
        IF l.access_until <= clock_timestamp() THEN
            RETURN;
        END IF;
    END IF;
    IF p_is_activity AND l.seen_at < clock_timestamp() - l.idle_s * interval '0.1 s' THEN
        UPDATE auth.logins i SET seen_at = clock_timestamp() WHERE i.tenant_id = l.tenant_id AND i.session_id = l.session_id;
    END IF;
    SELECT a.ticket, a.tenant_id, a.user_id, a.session_id, a.scopes, a.withheld, a.expires_at
        INTO admit_cookie.ticket, admit_cookie.tenant_id, admit_cookie.user_id, admit_cookie.session_id, admit_cookie.scopes,
             admit_cookie.withheld, admit_cookie.expires_at
        FROM authz.admit(l.issuer, l.subject, l.token_id, s.expires_at, CASE WHEN l.tenant_id <> nil THEN l.tenant_id::text END,
                         ARRAY[l.tenant_id::text], l.roles, l.is_strong,
                         l.is_strong AND l.authenticated_at > clock_timestamp() - p_fresh_s * interval '1 s',
                         false, s.profile_index, NULL, NULL, NULL) a;
END $$;

-- The provider's new word on who is behind a cookie. False: it is about somebody else, or about another tenant.
CREATE FUNCTION authz.refresh_login(p_cookie bytea, p_subject text, p_tenant text, p_roles text[], p_is_strong boolean, p_access_until timestamptz,
                                    p_refresh_enc bytea) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE auth.logins l SET roles = p_roles, is_strong = p_is_strong, access_until = p_access_until, refreshing_until = '-infinity',
                             refresh_enc = coalesce(p_refresh_enc, l.refresh_enc)
        FROM auth.tenants t
        WHERE l.cookie_hash = p_cookie AND l.subject = p_subject AND t.id = l.tenant_id AND p_roles IS NOT NULL AND p_is_strong IS NOT NULL
          AND p_access_until IS NOT NULL
          AND CASE WHEN p_tenant IS NULL THEN t.id = '00000000-0000-0000-0000-000000000000' ELSE lower(p_tenant) IN (t.slug, t.id::text) END;
    RETURN FOUND;
END $$;

-- The provider refuses to vouch for whoever is behind a cookie.
CREATE FUNCTION authz.end_login(p_cookie bytea, p_reason text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE auth.sessions s SET revoked_at = clock_timestamp(), revoked_reason = p_reason
        FROM auth.logins l WHERE l.cookie_hash = p_cookie AND s.tenant_id = l.tenant_id AND s.id = l.session_id AND s.revoked_at IS NULL
$$;

-- End the session of this transaction's ticket. What the provider must be told comes back, and is kept no longer.
CREATE FUNCTION authz.log_out(OUT issuer text, OUT cookie_hash bytea, OUT refresh_enc bytea, OUT id_token_enc bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    c     authz.claims := authz.current_claims();
    home  uuid := coalesce(c.tenant_id, '00000000-0000-0000-0000-000000000000');
BEGIN
    IF c.session_id IS NULL THEN
        RAISE EXCEPTION 'log_out: no session' USING ERRCODE = '28000';
    END IF;
    UPDATE auth.sessions s SET revoked_at = clock_timestamp(), revoked_reason = 'logout'
        WHERE s.tenant_id = home AND s.id = c.session_id AND s.revoked_at IS NULL;
    SELECT l.issuer, l.cookie_hash, l.refresh_enc, l.id_token_enc INTO log_out.issuer, log_out.cookie_hash, log_out.refresh_enc, log_out.id_token_enc
        FROM auth.logins l WHERE l.tenant_id = home AND l.session_id = c.session_id;
    UPDATE auth.logins l SET refresh_enc = NULL, id_token_enc = NULL WHERE l.tenant_id = home AND l.session_id = c.session_id;
END $$;

-- Which of these sessions may no longer be served: revoked, of a user who is not active, of a tenant that is suspended, or
-- past the end of a browser's. (A token that merely expires ends no answer that it began.) Both arrays go by place.
CREATE FUNCTION authz.ended_sessions(p_tenants uuid[], p_sessions uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT a.id FROM unnest(p_tenants, p_sessions) a (tenant, id)
        WHERE NOT EXISTS (
            SELECT FROM auth.sessions s
                JOIN auth.users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id
                JOIN auth.tenants t ON t.id = s.tenant_id
                LEFT JOIN auth.logins l ON l.tenant_id = s.tenant_id AND l.session_id = s.id
                WHERE s.tenant_id = a.tenant AND s.id = a.id AND s.revoked_at IS NULL AND u.status = 'active' AND t.status = 'active'
                  AND (l.session_id IS NULL OR s.expires_at > clock_timestamp()));
END $$;

-- Automatic logoff (45 CFR 164.312(a)(2)(iii)): end what is over, also when nobody comes back to be told, and keep nothing
-- of it that opens anything.
CREATE FUNCTION authz.sweep_logins() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended  bigint;
BEGIN
    WITH over AS (
        SELECT s.tenant_id, s.id, authz.login_end(l, s.expires_at) AS why
            FROM auth.logins l JOIN auth.sessions s ON s.tenant_id = l.tenant_id AND s.id = l.session_id
            WHERE s.revoked_at IS NULL AND authz.login_end(l, s.expires_at) IS NOT NULL
            ORDER BY s.tenant_id, s.id LIMIT 1000 FOR UPDATE OF s SKIP LOCKED)
    UPDATE auth.sessions s SET revoked_at = clock_timestamp(), revoked_reason = over.why
        FROM over WHERE s.tenant_id = over.tenant_id AND s.id = over.id AND s.revoked_at IS NULL;
    GET DIAGNOSTICS ended = ROW_COUNT;
    UPDATE auth.logins l SET refresh_enc = NULL, id_token_enc = NULL
        FROM auth.sessions s WHERE s.tenant_id = l.tenant_id AND s.id = l.session_id AND s.revoked_at IS NOT NULL
          AND num_nonnulls(l.refresh_enc, l.id_token_enc) > 0;
    DELETE FROM auth.logins l USING auth.sessions s
        WHERE s.tenant_id = l.tenant_id AND s.id = l.session_id AND s.revoked_at < clock_timestamp() - interval '1 day';
    DELETE FROM auth.login_attempts a WHERE a.expires_at < clock_timestamp();
    RETURN ended;
END $$;

-- A key that is revoked ends the session that it has, so that there is one place to look.
CREATE FUNCTION authz.on_key_revoked() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE auth.sessions s SET revoked_at = NEW.revoked_at, revoked_reason = 'api_key'
        WHERE s.tenant_id = NEW.tenant_id AND s.token_hash = ext.digest(convert_to('api-key:' || NEW.id, 'UTF8'), 'sha256') AND s.revoked_at IS NULL;
    RETURN NULL;
END $$;

GRANT EXECUTE ON FUNCTION authz.begin_login(bytea, bytea, text, text, boolean), authz.take_login(bytea, bytea),
    authz.log_in(text, text, text, timestamptz, text, text[], text[], boolean, boolean, boolean, bytea, bytea, bytea, bytea, bytea, integer,
                 timestamptz, timestamptz, bytea, bytea),
    authz.admit_cookie(bytea, boolean, integer), authz.refresh_login(bytea, text, text, text[], boolean, timestamptz, bytea),
    authz.end_login(bytea, text), authz.log_out(), authz.ended_sessions(uuid[], uuid[]), authz.sweep_logins() TO cordon_auth;
GRANT EXECUTE ON FUNCTION authz.on_key_revoked() TO cordon_owner;

RESET ROLE;
SET LOCAL ROLE cordon_owner;
REVOKE CREATE ON SCHEMA authz FROM cordon_authz_definer;

CREATE TRIGGER end_session AFTER UPDATE OF revoked_at ON auth.api_keys FOR EACH ROW
    WHEN (NEW.revoked_at IS NOT NULL AND OLD.revoked_at IS NULL) EXECUTE FUNCTION authz.on_key_revoked();
ALTER TABLE auth.api_keys ENABLE ALWAYS TRIGGER end_session;

RESET ROLE;
