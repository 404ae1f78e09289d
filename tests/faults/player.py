"""Clients that upload, ask, download, delete and make tenants without a pause, and keep a history of it (history.py).

Every text carries a mark, mark-<12 hex digits>, that no other text has: by it a document in the database, an object, a call
of the model and an intent in the history find each other. The mark is in the file's name too, which is embedded with each
chunk, so that every text for the model has it."""
import hashlib
import random
import secrets
import threading
import time

import requests

SENTENCES = [
    "Patient ambulates with a walker and reports less dyspnea on exertion.", "Furosemide was continued at 40 mg daily.",
    "Weight 81.4 kg, blood pressure 128 over 76, no edema at the ankles.", "Daughter will help with the pill organizer.",
    "Metformin is held until the contrast study is done.", "Follow-up with cardiology in two weeks was arranged.",
    "Sleep has improved since the evening dose was moved.", "No falls since the last visit; grab bars were installed."]


class Player:
    """Threads that play until stop(). rates: {operation: how often per second, over all threads}."""

    def __init__(self, stack, history, seed, rates):
        self.stack, self.history, self.rates = stack, history, rates
        self.random = random.Random(seed)
        self.lock, self.stopping, self.threads = threading.Lock(), threading.Event(), []
        self.accepted = []              # (document id, intent's mark, sha256) that may be read and deleted
        self.tokens = {role: stack.token(role=role) for role in ("clinician", "case_worker")}
        self.tokens["platform_admin"] = stack.token(tenant=None, role="platform_admin", user="operator")
        self.has_keys = self.probe_keys()

    # ---- one operation each

    def send(self, intent, method, path, success, role="clinician", read=lambda answer: {}, **kwargs):
        """Ask once, and write down what was said. True: acknowledged."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}", **kwargs.pop("headers", {})}
        try:
            answer = requests.request(method, self.stack.url + path, headers=headers, timeout=60, **kwargs)
            body = answer.content
            if len(body) != int(answer.headers.get("Content-Length", len(body))):
                raise requests.ConnectionError("cut")       # requests itself does not mind
        except requests.RequestException as error:
            self.history.learn(intent, "unknown", why=type(error).__name__)
            return False
        told = {"http": answer.status_code, "request_id": answer.headers.get("X-Request-ID")}
        if answer.status_code == success:
            self.history.learn(intent, "acknowledged", **told, **read(answer))
            return True
        code = answer.json().get("code") if body.startswith(b"{") else None
        is_unknown = answer.status_code >= 500 and method != "GET"
        self.history.learn(intent, "unknown" if is_unknown else "refused", **told, code=code)
        return False

    def text(self, mark):
        """One chunk mostly, eight or some twenty at times: the stand-in's model embeds about ten a second."""
        count = self.random.choice([4] * 30 + [60] * 3 + [200])
        lines = [f"Note {mark}. The code word of this note is {mark}."]
        lines += [f"{self.random.choice(SENTENCES)} Line {n} of {mark}." for n in range(count)]
        return "\n".join(lines).encode()

    def upload(self, is_bad=None):
        """is_bad: for sure, or without it now and then."""
        with self.lock:
            mark = f"mark-{secrets.token_hex(6)}"
            body, is_bad = self.text(mark), self.random.random() < 0.04 if is_bad is None else is_bad
        content_type = "application/pdf" if is_bad else "text/plain"
        if is_bad:                      # no pages in it: accepted, and fails with a reason
            body = b"%PDF-1.4\n% " + body
        for attempt in range(8):        # one intent, repeated under its key until somebody says yes or no
            document_id = self.upload_once(mark, body, content_type, is_bad, attempt)
            if document_id:
                break
            if self.stopping.wait(0.3 * (attempt + 1)):
                return
        else:
            return
        if self.has_keys and self.random.random() < 0.05:       # an answer that was lost on the way is asked for again
            self.upload_once(mark, body, content_type, is_bad, attempt + 1)
        with self.lock:
            self.accepted.append((document_id, mark, hashlib.sha256(body).hexdigest()))

    def upload_once(self, mark, body, content_type, is_bad, attempt):
        """The id of the document; None: it was not acknowledged."""
        intent, made = self.history.intend("upload", mark=mark, sha256=hashlib.sha256(body).hexdigest(), bytes=len(body), is_bad=is_bad,
                                           key=f"key-{mark}", attempt=attempt), {}

        def read(answer):
            made.update({name: answer.json()[name] for name in ("document_id", "job_id")})
            return made
        self.send(intent, "POST", "/api/v1/documents", 202, read=read, data=body, headers={
            "Content-Type": content_type, "Idempotency-Key": f"key-{mark}", "Content-Disposition": f'attachment; filename="{mark}.txt"'})
        return made.get("document_id")

    def probe_keys(self):
        """Does the same upload under the same key give the same document?"""
        mark = f"mark-{secrets.token_hex(6)}"
        body = self.text(mark)
        first, again = (self.upload_once(mark, body, "text/plain", False, attempt) for attempt in (0, 1))
        return first is not None and first == again

    def ask(self, path, what):
        with self.lock:
            mark, about = f"mark-{secrets.token_hex(6)}", self.random.choice(self.accepted)[1] if self.accepted else "nothing"
        intent = self.history.intend(what, mark=mark)
        about = about.removeprefix("mark-")         # one mark in each text

        def read(answer):
            told = answer.json()
            shown = told.get("hits") or told.get("citations") or []
            return {"event_id": told["event_id"], "answer_id": told.get("answer_id"),
                    "chunk_ids": [s["chunk_id"] for s in shown], "document_ids": sorted({s["document_id"] for s in shown})}
        self.send(intent, "POST", path, 200, read=read, json={"question": f"For {mark}: what is the code word of note {about}?", "top_k": 3})

    def search(self):
        self.ask("/api/v1/search", "search")

    def question(self):
        self.ask("/api/v1/query", "question")

    def download(self):
        with self.lock:
            if not self.accepted:
                return
            document_id, mark, digest = self.random.choice(self.accepted)
        intent = self.history.intend("download", mark=mark, document_id=document_id)
        self.send(intent, "GET", f"/api/v1/documents/{document_id}/content", 200,
                  read=lambda answer: {"sha256": hashlib.sha256(answer.content).hexdigest(), "expected": digest})

    def delete(self):
        with self.lock:
            if len(self.accepted) < 10:
                return
            document_id, mark, _ = self.accepted.pop(self.random.randrange(len(self.accepted)))
        for attempt in range(8):
            intent = self.history.intend("delete", mark=mark, document_id=document_id, attempt=attempt)
            if self.send(intent, "DELETE", f"/api/v1/documents/{document_id}", 204) or self.stopping.wait(0.3 * (attempt + 1)):
                return

    def tenant(self):
        slug = f"t-{secrets.token_hex(6)}"
        for attempt in range(8):
            intent = self.history.intend("tenant", slug=slug, attempt=attempt)
            if self.send(intent, "POST", "/api/v1/tenants", 201, role="platform_admin", json={"slug": slug, "name": f"Clinic {slug}"},
                         read=lambda answer: {"tenant_id": answer.json()["tenant"]["id"]}) or self.stopping.wait(0.3 * (attempt + 1)):
                return

    def tenants(self):
        self.send(self.history.intend("tenants"), "GET", "/api/v1/tenants", 200, role="platform_admin")

    # ---- all of them at once

    def play(self, operation, every_s):
        due = time.monotonic() + self.random.random() * every_s
        while not self.stopping.wait(max(0, due - time.monotonic())):
            due = max(due + every_s, time.monotonic())      # no burst after a long wait
            getattr(self, operation)()

    def __enter__(self):
        for operation, rate in self.rates.items():
            for _ in range(2 if rate > 1 else 1):
                every_s = (2 if rate > 1 else 1) / rate
                self.threads.append(threading.Thread(target=self.play, args=(operation, every_s), daemon=True))
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self.stopping.set()
        for thread in self.threads:
            thread.join(90)
