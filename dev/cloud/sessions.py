"""Sessions of roles, as STS gives them. Nothing is stored: a session token says by itself who it is and until when, and
bears a MAC of this stand-in's own key, which is kept in its folder, so that a restart ends no session."""
import base64
import datetime
import hashlib
import hmac
import json
import os
import secrets

from iam import Identity

LONGEST_S, SHORTEST_S = 12 * 3600, 900


class Sessions:
    def __init__(self, folder, roles, account):
        self.roles, self.account = roles, account
        path = folder / "sessions.key"
        if not path.exists():
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
        self.key = path.read_bytes()

    def mac(self, *parts):
        return hmac.new(self.key, "\0".join(parts).encode(), hashlib.sha256).digest()

    def make(self, role, session, tags, seconds, now):
        """-> Identity with its secret and token."""
        key_id = "ASIA" + base64.b32encode(secrets.token_bytes(10)).decode()
        expires = (now + datetime.timedelta(seconds=seconds)).replace(microsecond=0)
        body = base64.urlsafe_b64encode(json.dumps([role, session, tags, expires.timestamp(), key_id]).encode()).decode()
        return self.find(key_id, body + "." + self.mac("token", body).hex())

    def find(self, key_id, token):
        """The session of this access key and token; None when there is no such."""
        body, _, mac = (token or "").partition(".")
        if not hmac.compare_digest(self.mac("token", body).hex(), mac):
            return None
        role, session, tags, expires, own_id = json.loads(base64.urlsafe_b64decode(body))
        if own_id != key_id or role not in self.roles:
            return None
        return Identity(role, key_id, base64.b64encode(self.mac("secret", key_id)).decode(), self.roles[role], self.account, token, session,
                        datetime.datetime.fromtimestamp(expires, datetime.timezone.utc), tags)
