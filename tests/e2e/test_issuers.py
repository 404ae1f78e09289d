"""Several factors, a second issuer, and keys that rotate, with the real OpenID provider."""
import base64
import json
import os
import signal
import subprocess

import pytest
import requests

from conftest import ROOT, STATE, free_base, wait_for
from test_pools import load

PATH = "/api/v1/documents"
APP = ROOT / ".cordon" / "app"


class Provider:
    """Another instance of dev/idp, which the test may stop and give other keys."""

    def __init__(self, folder, port):
        self.folder, self.url, self.process = folder, f"http://127.0.0.1:{port}", None
        self.env = {"PATH": os.environ["PATH"], "ENVIRONMENT": "development", "IDP_PORT": str(port), "IDP_STATE": str(folder),
                    "IDP_CLI_SECRET": "cli", "IDP_CLIENT_SECRET": "client", "IDP_EDGE_PORT": "1"}

    def start(self):
        self.process = subprocess.Popen([APP / "node", APP / "idp" / "server.mjs"], env=self.env, stdout=subprocess.DEVNULL)
        wait_for("the second provider", lambda: requests.get(self.url + "/.well-known/openid-configuration", timeout=5).ok, 30)

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def token(self, **fields):
        fields = {"roles": "clinician", **fields, "grant_type": "urn:cordon:dev:token"}
        answer = requests.post(self.url + "/token", data=fields, auth=("cordon-cli", "cli"), timeout=10)
        assert answer.ok, answer.text
        return answer.json()["access_token"]

    def rotate(self):
        """New keys before the old ones, as providers do: it signs with the first of an algorithm."""
        kept = json.loads((self.folder / "keys.json").read_text())
        (self.folder / "keys.json").unlink()
        self.stop()
        self.start()
        made = json.loads((self.folder / "keys.json").read_text())
        (self.folder / "keys.json").write_text(json.dumps({**made, "jwks": made["jwks"] + kept["jwks"]}))
        self.stop()
        self.start()


def kid(token):
    part = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["kid"]


@pytest.fixture(scope="module")
def second(stack, tmp_path_factory):
    """A second issuer, of lakeside only, and people of the first need several factors."""
    provider = Provider(tmp_path_factory.mktemp("idp"), free_base() + 5)
    provider.start()
    secrets = STATE / "secrets" / "auth"
    settings = {"CORDON_ISSUERS": json.dumps([{"issuer": provider.url, "audience": "cordon", "tenants": ["lakeside"], "mfa": "always"}]), "CORDON_REQUIRE_MFA": "true"}
    for name, value in settings.items():
        (secrets / name).write_text(value + "\n")
    stack.cordon("restart", "auth")
    wait_for("ready", stack.is_ready)
    yield provider
    for name in settings:
        (secrets / name).unlink()
    stack.cordon("restart", "auth")
    wait_for("ready", stack.is_ready)
    provider.stop()


def status(stack, token, path=PATH):
    answer = stack.call("GET", path, token=token)
    return answer.status_code, answer.json().get("code")


def mint(stack, *words):
    return stack.cordon("token", "--tenant", "demo", "--role", "clinician", *words).splitlines()[-1]


def test_people_need_several_factors_for_what_is_protected(stack, second):
    assert status(stack, mint(stack, "--user", "one-factor")) == (401, "AUTH_007")
    assert status(stack, mint(stack, "--user", "password", "--amr", "pwd")) == (401, "AUTH_007")
    assert status(stack, mint(stack, "--user", "two-factors", "--amr", "pwd mfa"))[0] == 200
    assert status(stack, mint(stack, "--user", "phishing-proof", "--acr", "phr"))[0] == 200
    assert status(stack, mint(stack, "--user", "other-acr", "--acr", "urn:nobody:knows"))[0] == 401
    machine = stack.call("POST", "/api/v1/api-keys", token=stack.cordon("token", "--tenant", "demo", "--role", "admin", "--user", "adm", "--amr", "mfa").splitlines()[-1],
                         json={"name": "nightly", "scopes": ["documents:read"], "days": 1})
    assert machine.status_code == 201, machine.text
    assert status(stack, machine.json()["key"])[0] == 200, "machines have one factor"


def test_a_second_issuer_speaks_for_its_own_tenant_only(stack, second):
    assert status(stack, second.token(tenant="lakeside", user="lena"))[0] == 200
    assert status(stack, second.token(user="lena"))[0] == 200, "it has one tenant, so its tokens need not name it"
    assert status(stack, second.token(tenant="demo", user="lena"))[0] == 403
    assert status(stack, second.token(roles="platform_admin", user="root"), "/api/v1/tenants")[0] in (401, 403)
    listed = stack.call("GET", PATH + "?limit=1", token=second.token(tenant="lakeside", user="lena"))
    assert listed.status_code == 200


def test_keys_rotate_under_load_and_nobody_is_refused(stack, second, pulse):
    tokens = [second.token(tenant="lakeside", user="load")]

    def ask(stack):
        return stack.call("GET", PATH, token=tokens[-1])
    with load(stack, pulse, ask, ask, ask) as running:
        for _ in range(3):
            stray = mint(stack).split(".")
            assert stack.call("GET", PATH, token=".".join([base64.urlsafe_b64encode(b'{"alg":"RS256","typ":"JWT","kid":"nobody-has-it"}').rstrip(b"=").decode(), *stray[1:]])).status_code == 401
            before = kid(tokens[-1])
            second.rotate()
            fresh = second.token(tenant="lakeside", user="load")
            assert kid(fresh) != before
            tokens.append(fresh)
            assert status(stack, fresh)[0] == 200, "at once"
        seen = [len(one.asked) for one in running]
        wait_for("the load went on", lambda: all(len(one.asked) > n + 3 for one, n in zip(running, seen)), 30)
    assert all(status(stack, token)[0] == 200 for token in tokens), "the old keys are still published"
