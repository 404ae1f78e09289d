// A real OpenID provider for development: discovery, JWKS, RS256 and ES256, authorization code with PKCE,
// and one grant of its own by which `./cordon token` gets a token for any tenant and role. That last one makes
// it a skeleton key for whatever trusts this issuer, so it refuses to run anywhere but in development.
//
// Environment: IDP_PORT, IDP_STATE (folder for the signing keys), IDP_CLI_SECRET, IDP_CLIENT_SECRET,
//              IDP_EDGE_PORT (where the browser login returns to; several between commas), IDP_ACCESS_TOKEN_S (900),
//              ENVIRONMENT=development
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { exportJWK, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';

const DEV_GRANT = 'urn:cordon:dev:token';
const AUDIENCE = 'cordon';
const ALGORITHMS = ['RS256', 'ES256'];
const LONGEST_TTL_S = 24 * 3600;

function setting(name) {
    const value = process.env[name];
    if (!value) throw new Error(`${name} is not set`);
    return value;
}

// Signing keys and the cookie secret, made once and kept, so that tokens outlive a restart.
async function loadKeys(folder) {
    const file = path.join(folder, 'keys.json');
    try {
        return JSON.parse(await readFile(file, 'utf8'));
    } catch (error) {
        if (error.code !== 'ENOENT') throw error;
    }
    const jwks = [];
    for (const alg of ALGORITHMS) {
        const { privateKey } = await generateKeyPair(alg, { extractable: true });
        jwks.push({ ...await exportJWK(privateKey), alg, use: 'sig', kid: `${alg.toLowerCase()}-${Date.now().toString(36)}` });
    }
    const keys = { jwks, cookie: crypto.randomUUID() + crypto.randomUUID() };
    await mkdir(folder, { recursive: true });
    await writeFile(`${file}.new`, JSON.stringify(keys), { mode: 0o600 });
    await rename(`${file}.new`, file);
    return keys;
}

const list = (text) => (text ?? '').split(/[\s,]+/).filter(Boolean);
const badRequest = (description) => Object.assign(new Error('invalid_request'), {
    name: 'InvalidRequest', error: 'invalid_request', error_description: description,
    expose: true, status: 400, statusCode: 400,
});

function createProvider({ issuer, edgePorts, keys, users, secrets }) {
    const byUser = new Map(users.map((user) => [user.user, user]));
    const provider = new Provider(issuer, {
        jwks: { keys: keys.jwks },
        cookies: { keys: [keys.cookie] },
        clients: [{
            // Not the audience of access tokens: an ID token must be good for nothing else.
            client_id: 'cordon-web', client_secret: secrets.client, id_token_signed_response_alg: 'RS256',
            grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
            redirect_uris: edgePorts.map((port) => `http://127.0.0.1:${port}/api/v1/auth/callback`),
            post_logout_redirect_uris: edgePorts.map((port) => `http://127.0.0.1:${port}/`),
        }, {
            client_id: 'cordon-cli', client_secret: secrets.cli,
            grant_types: [DEV_GRANT], response_types: [], redirect_uris: [],
        }],
        // Without the consent page each time that OpenID Connect Core, 11 would want for offline_access.
        issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
        pkce: { required: () => true },
        scopes: ['openid', 'profile', 'email', 'offline_access'],
        claims: { openid: ['sub', 'tenant', 'roles'], profile: ['name'], email: ['email'] },
        conformIdTokenClaims: false,
        ttl: { AccessToken: (ctx) => ctx.oidc.devToken?.ttl_s ?? Number(process.env.IDP_ACCESS_TOKEN_S ?? 900), Session: 12 * 3600, Grant: 12 * 3600, Interaction: 3600, IdToken: 900 },
        features: {
            devInteractions: { enabled: true },
            introspection: { enabled: true },
            revocation: { enabled: true },
            rpInitiatedLogout: { enabled: true },
            resourceIndicators: {
                enabled: true,
                defaultResource: () => 'urn:cordon:api',
                useGrantedResource: () => true,
                getResourceServerInfo: (ctx) => ({
                    scope: 'openid profile email', audience: AUDIENCE, accessTokenFormat: 'jwt',
                    jwt: { sign: { alg: ctx.oidc.devToken?.alg ?? 'RS256' } },
                }),
            },
        },
        findAccount: (ctx, id) => {
            const user = byUser.get(id);
            return user && { accountId: id, claims: () => ({ sub: id, ...claimsOf(user) }) };
        },
        extraTokenClaims: (ctx, token) => claimsOf(ctx.oidc.devToken ?? byUser.get(token.accountId) ?? {}),
    });
    provider.registerGrantType(DEV_GRANT, (ctx) => grantDevToken(provider, byUser, ctx),
        ['tenant', 'roles', 'user', 'email', 'ttl', 'alg', 'amr', 'acr']);
    provider.on('server_error', (ctx, error) => console.error(JSON.stringify({ event: 'server_error', why: String(error) })));
    return provider;
}

const claimsOf = ({ tenant, roles, name, email, amr, acr }) => ({ tenant, roles, name, email, amr, acr });

// tenant, roles, user, email, ttl (seconds), alg, and how he logged in (amr, acr) as form fields; a user of users.json brings his own defaults.
async function grantDevToken(provider, byUser, ctx) {
    const { client, params } = ctx.oidc;
    const known = byUser.get(params.user) ?? {};
    const roles = list(params.roles).length ? list(params.roles) : known.roles ?? [];
    const ttl_s = Number(params.ttl ?? 3600);
    const alg = params.alg ?? 'RS256';
    if (!roles.length) throw badRequest('roles: name at least one role, or a user who has some');
    if (!(ttl_s > 0 && ttl_s <= LONGEST_TTL_S)) throw badRequest(`ttl: 1 to ${LONGEST_TTL_S} seconds`);
    if (!ALGORITHMS.includes(alg)) throw badRequest(`alg: one of ${ALGORITHMS.join(', ')}`);
    const tenant = params.tenant || known.tenant;
    const user = params.user || `${roles[0]}@${tenant ?? 'platform'}`;
    ctx.oidc.devToken = {
        tenant, roles, ttl_s, alg, acr: params.acr, amr: params.amr && list(params.amr), name: known.name ?? user,
        email: params.email ?? known.email ?? (user.includes('@') ? `${user}.example` : `${user}@${tenant ?? 'platform'}.example`),
    };
    const token = new provider.AccessToken({ client, accountId: user, gty: DEV_GRANT });
    const info = {
        audience: AUDIENCE, scope: '', accessTokenFormat: 'jwt', jwt: { sign: { alg } }, accessTokenTTL: ttl_s,
    };
    token.resourceServer = new provider.ResourceServer('urn:cordon:api', info);
    ctx.oidc.entity('AccessToken', token);
    ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: token.expiration };
}

async function main() {
    if (process.env.ENVIRONMENT !== 'development')
        throw new Error('the development identity provider runs with ENVIRONMENT=development only');
    const port = Number(setting('IDP_PORT'));
    const issuer = `http://127.0.0.1:${port}`;
    const provider = createProvider({
        issuer,
        edgePorts: list(setting('IDP_EDGE_PORT')),
        keys: await loadKeys(setting('IDP_STATE')),
        users: JSON.parse(await readFile(new URL('users.json', import.meta.url), 'utf8')),
        secrets: { cli: setting('IDP_CLI_SECRET'), client: setting('IDP_CLIENT_SECRET') },
    });
    const server = http.createServer(provider.callback());
    server.listen(port, '127.0.0.1', () => console.log(JSON.stringify({ event: 'ready', issuer })));
    process.on('SIGTERM', () => server.close(() => process.exit(0)) && server.closeAllConnections());
}

main().catch((error) => {
    console.error(JSON.stringify({ event: 'refused', why: error.message }));
    process.exit(1);
});
