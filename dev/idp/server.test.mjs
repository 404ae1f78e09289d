// The development identity provider, started as `./cordon up` starts it and asked over HTTP.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createRemoteJWKSet, jwtVerify } from 'jose';

const SERVER = fileURLToPath(new URL('server.mjs', import.meta.url));
const CLI = `Basic ${Buffer.from('cordon-cli:cli-secret-of-the-test').toString('base64')}`;
const state = mkdtempSync(path.join(tmpdir(), 'idp-'));
let child, issuer, port;

async function freePort() {
    const probe = net.createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port: found } = probe.address();
    probe.close();
    return found;
}

function start(environment) {
    return spawn(process.execPath, [SERVER], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: {
            ENVIRONMENT: environment, IDP_PORT: String(port), IDP_STATE: state, IDP_EDGE_PORT: '8080',
            IDP_CLI_SECRET: 'cli-secret-of-the-test', IDP_CLIENT_SECRET: 'client-secret-of-the-test',
        },
    });
}

async function startAndWait() {
    child = start('development');
    for await (const line of child.stdout)
        if (String(line).includes('"ready"')) break;
}

async function stop() {
    child.kill('SIGTERM');
    await once(child, 'exit');
}

async function ask(fields, authorization = CLI) {
    return fetch(`${issuer}/token`, {
        method: 'POST', headers: { authorization },
        body: new URLSearchParams({ grant_type: 'urn:cordon:dev:token', ...fields }),
    });
}

async function token(fields) {
    const reply = await ask(fields);
    assert.equal(reply.status, 200);
    return (await reply.json()).access_token;
}

async function verified(jwt) {
    const discovery = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
    return jwtVerify(jwt, createRemoteJWKSet(new URL(discovery.jwks_uri)), { issuer, audience: 'cordon', typ: 'at+jwt' });
}

before(async () => {
    port = await freePort();
    issuer = `http://127.0.0.1:${port}`;
    await startAndWait();
});

after(async () => {
    await stop();
    rmSync(state, { recursive: true });
});

test('a token names tenant, roles and person, and verifies against the published keys', async () => {
    const { payload, protectedHeader } = await verified(await token({ tenant: 'demo', roles: 'clinician,reviewer', user: 'dana' }));
    assert.equal(protectedHeader.alg, 'RS256');
    assert.deepEqual([payload.tenant, payload.roles, payload.sub, payload.email], ['demo', ['clinician', 'reviewer'], 'dana', 'dana@demo.example']);
    assert.ok(payload.jti && payload.exp - payload.iat === 3600);
});

test('a known user brings his own tenant and roles; ES256 and the lifetime are as asked', async () => {
    const { payload, protectedHeader } = await verified(await token({ user: 'maya', alg: 'ES256', ttl: '60' }));
    assert.equal(protectedHeader.alg, 'ES256');
    assert.deepEqual([payload.tenant, payload.roles, payload.exp - payload.iat], ['demo', ['clinician'], 60]);
});

test('the platform operator has no tenant', async () => {
    const { payload } = await verified(await token({ user: 'operator' }));
    assert.deepEqual([payload.tenant, payload.roles], [undefined, ['platform_admin']]);
});

test('a wrong client secret, no role, and an endless lifetime are refused', async () => {
    const wrong = `Basic ${Buffer.from('cordon-cli:guess').toString('base64')}`;
    assert.equal((await ask({ tenant: 'demo', roles: 'admin' }, wrong)).status, 401);
    assert.equal((await ask({ tenant: 'demo' })).status, 400);
    assert.equal((await ask({ tenant: 'demo', roles: 'admin', ttl: '9999999' })).status, 400);
});

test('tokens outlive a restart, because the keys do', async () => {
    const jwt = await token({ tenant: 'demo', roles: 'auditor' });
    await stop();
    await startAndWait();
    assert.deepEqual((await verified(jwt)).payload.roles, ['auditor']);
    assert.ok(readFileSync(path.join(state, 'keys.json')).length > 0);
});

test('production is refused', async () => {
    const refused = start('production');
    const [code] = await once(refused, 'exit');
    assert.equal(code, 1);
});
