"""Faults on demand, for tests: what the next calls of a service meet, told to /_control of the gateway.

A rule is an object; what it does not name, it takes from any call:

    service     "s3", "kms", "sts", "bedrock"       operation   "UploadPart", "Decrypt", "InvokeModel"
    identity    "query"                             resource    a part of the resource's ARN
    kind        one of KINDS                        skip        so many matching calls pass first
    times       so many calls meet it; true: all    seconds     for so long
    bytes       of the answer's body before it ends or is spoilt
    bytes_per_s for "slow"

The first rule that fits strikes. A call meets a fault after signature and policy were found good, so that only
what would have succeeded fails; `calls.jsonl` names the fault beside the call, and whether the call took effect.
"""
import threading
import time

from errors import AwsError

# kind -> what the service says. In every service: (code, status); a service that is not named says the last.
REFUSALS = {
    "throttle": {"s3": ("SlowDown", 503), "kms": ("ThrottlingException", 400), "sts": ("Throttling", 400), "secretsmanager": ("ThrottlingException", 400),
                 "": ("ThrottlingException", 429)},
    "error429": {"": ("TooManyRequestsException", 429)},
    "error500": {"s3": ("InternalError", 500), "kms": ("KMSInternalException", 500), "sts": ("InternalFailure", 500),
                 "secretsmanager": ("InternalServiceError", 500), "": ("InternalServerException", 500)},
    "error503": {"s3": ("ServiceUnavailable", 503), "": ("ServiceUnavailableException", 503)},
    "expired": {"s3": ("ExpiredToken", 400), "sts": ("ExpiredToken", 403), "": ("ExpiredTokenException", 400)},
    "denied": {"s3": ("AccessDenied", 403), "sts": ("AccessDenied", 403), "": ("AccessDeniedException", 400)},
    "disabled": {"s3": ("KMS.DisabledException", 400), "": ("DisabledException", 400)},
    "skewed": {"s3": ("RequestTimeTooSkewed", 403), "sts": ("SignatureDoesNotMatch", 403), "": ("InvalidSignatureException", 400)},
    "bad_digest": {"s3": ("BadDigest", 400), "": ("XAmzContentChecksumMismatch", 400)},
}
# Before the call takes effect: nothing is answered ("hang"), the connection is reset ("reset"), or 200 with an error
# document ("ok_error") or nothing in it ("ok_empty").
BEFORE = {"hang", "reset", "ok_error", "ok_empty"}
# After it took effect: the answer is lost, ends or halts after `bytes`, has a bit turned there, comes slowly, names
# another ETag.
AFTER = {"lost", "cut", "stall", "corrupt", "slow", "wrong_etag"}
KINDS = set(REFUSALS) | BEFORE | AFTER
NAMES = {"service", "operation", "identity", "resource", "kind", "skip", "times", "seconds", "bytes", "bytes_per_s"}
HANG_S = 300


class Rule:
    def __init__(self, given):
        unknown = set(given) - NAMES
        if unknown or given.get("kind") not in KINDS:
            raise ValueError(f"no such fault: {sorted(unknown) or given.get('kind')}")
        self.match = {name: given[name] for name in ("service", "operation", "identity") if name in given}
        self.resource, self.kind, self.skip = given.get("resource", ""), given["kind"], given.get("skip", 0)
        self.times, self.bytes, self.rate = given.get("times", True), given.get("bytes", 0), given.get("bytes_per_s", 1000)
        self.until = time.monotonic() + given["seconds"] if "seconds" in given else None
        self.struck, self.over = 0, threading.Event()

    def fits(self, call):
        if self.times is not True and self.struck >= self.times:
            return False
        if self.until is not None and time.monotonic() >= self.until:
            return False
        if any(call[name] != value for name, value in self.match.items()) or self.resource not in (call["resource"] or ""):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.struck += 1
        return True

    def refusal(self, service):
        table = REFUSALS[self.kind]
        code, status = table.get(service, table[""])
        return AwsError(code, f"a fault that a test has asked for: {self.kind}", status)

    def wait(self, gone):
        """Until the rule ends, or gone() says that nobody waits for us."""
        end = self.until or time.monotonic() + HANG_S
        while time.monotonic() < end and not self.over.wait(0.05) and not gone():
            pass

    def state(self):
        return {**self.match, "kind": self.kind, "struck": self.struck}


class Faults:
    def __init__(self):
        self.rules, self.lock = [], threading.Lock()
        self.clock_ahead_s = 0      # of the stand-in's own clock, for signatures and the Date header

    def set(self, given):
        """{"rules": [...], "clock_ahead_s": n}: instead of all that was set before; what hangs is let go."""
        if set(given) - {"rules", "clock_ahead_s"}:
            raise ValueError(f"no such switch: {sorted(given)}")
        rules = [Rule(rule) for rule in given.get("rules", [])]
        with self.lock:
            old, self.rules, self.clock_ahead_s = self.rules, rules, given.get("clock_ahead_s", 0)
        for rule in old:
            rule.over.set()

    def strike(self, **call):
        with self.lock:
            return next((rule for rule in self.rules if rule.fits(call)), None)

    def state(self):
        with self.lock:
            return {"rules": [rule.state() for rule in self.rules], "clock_ahead_s": self.clock_ahead_s}
