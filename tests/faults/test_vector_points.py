"""The fault points of what is done to a tenant's vectors as a whole, which the other clients do not come by: ingest-worker is killed at each
while a big tenant's vectors move into a partition of its own, and again while another model makes them anew. Searches are right all
the while, and both jobs end. By a tenant that nobody else plays with."""
import contextlib
import pathlib
import random
import secrets
import string
import threading

import e2e
import pytest
from conftest import IS_LONG
from test_erasure_points import ask_until, count, erase
from test_points import arm, fired, points

NEXT = {"CORDON_EMBED_MODEL_ID": "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/titan-embed-next-app",
        "CORDON_EMBED_MODEL_NAME": "next", "CORDON_EMBED_OLD_MODEL_ID": "amazon.titan-embed-text-v2:0"}
NOTES, LINES = 3, 240
KEPT = ("SELECT count(*) FILTER (WHERE {}) = count(*) AND count(*) = count(DISTINCT v.text_blind) AND count(*) = (SELECT count(DISTINCT k.text_blind) "
        "FROM app.chunks k WHERE k.tenant_id = t.id) FROM app.text_vectors v JOIN auth.tenants t ON t.id = v.tenant_id WHERE t.slug = %s GROUP BY t.id")


@contextlib.contextmanager
def embedding_worker_with(stack, settings):
    folder = pathlib.Path(stack.info["processes"]["embedding-worker"]["secrets"])
    for name, value in settings.items():
        (folder / name).write_text(f"{value}\n")
    stack.cordon("restart", "embedding-worker")
    e2e.wait_for("ready", stack.is_ready)
    try:
        yield
    finally:
        for name in settings:
            (folder / name).unlink()
        stack.cordon("restart", "embedding-worker")
        e2e.wait_for("ready again", stack.is_ready)


class Searcher(threading.Thread):
    """Asks for one note after the other, until the block ends; each time the first hit must be of it."""

    def __init__(self, stack, who, notes):
        super().__init__(daemon=True)
        self.stack, self.who, self.notes = stack, who, notes
        self.asked, self.wrong, self.stopping = 0, [], threading.Event()

    def run(self):
        while not self.stopping.wait(0.05):
            word, documents = random.choice(list(self.notes.items()))
            answer = self.stack.call("POST", "/api/v1/search", json={"question": f"What was the pressure of {word}?", "top_k": 3}, **self.who)
            hits = answer.json().get("hits", [])
            self.asked += 1
            if len(hits) != 3 or hits[0]["document_id"] not in documents:
                self.wrong.append((answer.status_code, word, [hit["document_id"] for hit in hits]))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.stopping.set()
        self.join(60)
        assert self.asked >= 5 and not self.wrong, (self.asked, self.wrong[:3])


def strike_at_each(stack, kind, order, begin):
    """The job that begin() makes is struck once at each of the points of its kind, one after the other. Its id."""
    names = [arm(stack, point, process, order) for point, process, can_fail in points()
             if point.startswith(kind + ".") and (order == "kill" or can_fail)]
    try:
        job = begin()
        e2e.wait_for(f"{kind} struck everywhere and done", lambda: all(fired(stack, name) for name in names) and count(
            stack, "SELECT count(*) FROM jobs.jobs WHERE id = %s AND state = 'succeeded'", job) == 1, 180, 0.2)
        return job
    finally:
        for name in names:
            (stack.faults / name).unlink(missing_ok=True)
            for mark in stack.faults.glob(f"{name}.fired.*"):
                mark.rename(stack.faults / f"done.{order}.{mark.name}")


def promotion_of(stack, slug):
    count(stack, "SELECT jobs.enqueue_promotion(t.id, (SELECT d.created_by FROM app.documents d WHERE d.tenant_id = t.id LIMIT 1))::integer "
          "FROM auth.tenants t WHERE t.slug = %s", slug)
    return count(stack, "SELECT j.id::text FROM jobs.jobs j JOIN auth.tenants t ON t.id = j.tenant_id WHERE t.slug = %s AND j.kind = 'promote'", slug)


@pytest.mark.parametrize("order", ["kill"] + ["fail"] * IS_LONG)
def test_vectors_move_and_change_whatever_happens_on_the_way(stack, order):
    slug = f"vectors-{secrets.token_hex(3)}"
    stack.cordon("tenants", "create", slug, "A Big Clinic")
    who, notes = {"tenant": slug, "role": "admin"}, {}
    for _ in range(NOTES):
        word = "".join(random.choices(string.ascii_lowercase, k=10))
        body = "\n".join(f"Line {n} on {word}: pressure {100 + n % 60} over {60 + n % 30}, weight {50 + n % 70} kg." for n in range(LINES)).encode()
        notes[word] = [stack.upload(body, name=f"{word}.txt", **who).json()["document_id"] for _ in range(2)]       # its texts stand in two documents
    documents = [document for both in notes.values() for document in both]
    assert [stack.wait_ready(document, 120, **who)["status"] for document in documents] == ["ready"] * len(documents)

    with Searcher(stack, who, notes):
        strike_at_each(stack, "promote", order, lambda: promotion_of(stack, slug))
    assert count(stack, KEPT.format("v.home = v.tenant_id"), slug), "each text once, at home"
    assert ask_until(stack, (200,), "GET", "/api/v1/vectors", who).json()["has_index"]

    with embedding_worker_with(stack, NEXT):
        with Searcher(stack, who, notes):
            strike_at_each(stack, "reembed", order, lambda: ask_until(stack, (202,), "POST", "/api/v1/vectors/reembeddings", who).json()["job_id"])
        assert count(stack, KEPT.format("v.home = v.tenant_id AND v.model = 'next'"), slug), "each text once, by the next model"
        assert ask_until(stack, (200,), "GET", "/api/v1/vectors", who).json()["model"] == "next"

    for document in documents:
        erase(stack, document, who=who)
    assert count(stack, "SELECT count(*) FROM app.text_vectors v JOIN auth.tenants t ON t.id = v.tenant_id WHERE t.slug = %s", slug) == 0
