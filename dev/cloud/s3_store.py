"""Objects on disk: metadata in SQLite, bytes in files of their own, parts joined by reference.

A body is written once under a random name and never changed; an object version is a list of bodies, so that
completing a multipart upload copies nothing. A body file that no row names (a crash between the two) is swept
at the next start. One process owns the folder.
"""
import hashlib
import json
import os
import pathlib
import secrets
import sqlite3
import threading
import time

SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (
    name TEXT PRIMARY KEY, created_at REAL NOT NULL, versioning TEXT NOT NULL DEFAULT '',
    object_lock INTEGER NOT NULL DEFAULT 0, encryption TEXT, retention TEXT);
CREATE TABLE IF NOT EXISTS versions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, bucket TEXT NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL,
    marker INTEGER NOT NULL DEFAULT 0, bodies TEXT NOT NULL DEFAULT '[]', bytes INTEGER NOT NULL DEFAULT 0,
    etag TEXT NOT NULL DEFAULT '', headers TEXT NOT NULL DEFAULT '{}', created_at REAL NOT NULL,
    lock_mode TEXT, retain_until REAL, legal_hold INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS versions_by_key ON versions (bucket, key, seq DESC);
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key TEXT NOT NULL, headers TEXT NOT NULL, created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS parts (
    upload TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL, bytes INTEGER NOT NULL, etag TEXT NOT NULL,
    created_at REAL NOT NULL, PRIMARY KEY (upload, number));
"""
CHUNK = 1 << 20


class Incoming:
    """A body on its way in: hashed while it is written; either kept by name or thrown away."""

    def __init__(self, path):
        self.path, self.bytes = path, 0
        self.sha256, self.md5 = hashlib.sha256(), hashlib.md5()
        self.file = open(path, "wb")

    def write(self, chunk):
        self.file.write(chunk)
        self.sha256.update(chunk)
        self.md5.update(chunk)
        self.bytes += len(chunk)

    def keep(self):
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return self.path.name

    def discard(self):
        self.file.close()
        self.path.unlink(missing_ok=True)


class Store:
    def __init__(self, folder):
        self.bodies = pathlib.Path(folder) / "bodies"
        self.bodies.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.db = sqlite3.connect(pathlib.Path(folder) / "objects.db", check_same_thread=False, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.executescript(SCHEMA)
        self.sweep()

    def rows(self, sql, *values):
        with self.lock:
            return self.db.execute(sql, values).fetchall()

    def row(self, sql, *values):
        return next(iter(self.rows(sql, *values)), None)

    def transaction(self):
        return Transaction(self)

    def sweep(self):
        known = {body for row in self.rows("SELECT bodies FROM versions") for body, _ in json.loads(row["bodies"])}
        known |= {row["body"] for row in self.rows("SELECT body FROM parts")}
        for path in self.bodies.iterdir():
            if path.name not in known:
                path.unlink()

    # buckets

    def bucket(self, name):
        return self.row("SELECT * FROM buckets WHERE name = ?", name)

    def create_bucket(self, name, object_lock=False):
        versioning = "Enabled" if object_lock else ""
        self.rows("INSERT INTO buckets (name, created_at, versioning, object_lock) VALUES (?, ?, ?, ?)",
                  name, time.time(), versioning, int(object_lock))

    def set_bucket(self, name, column, value):
        assert column in ("versioning", "encryption", "retention")
        self.rows(f"UPDATE buckets SET {column} = ? WHERE name = ?", value, name)

    def delete_bucket(self, name):
        self.rows("DELETE FROM buckets WHERE name = ?", name)

    # objects

    def incoming(self):
        return Incoming(self.bodies / secrets.token_hex(16))

    def read(self, version, start, length):
        """Yields `length` bytes from `start`, over the version's bodies in order."""
        for body, size in json.loads(version["bodies"]):
            if start >= size:
                start -= size
                continue
            with open(self.bodies / body, "rb") as file:
                file.seek(start)
                wanted = min(size - start, length)
                length -= wanted
                start = 0
                while wanted > 0:
                    chunk = file.read(min(CHUNK, wanted))
                    if not chunk:
                        raise OSError(f"body {body} is shorter than recorded")
                    wanted -= len(chunk)
                    yield chunk
            if length == 0:
                return

    def find(self, bucket, key, version=None):
        if version:
            return self.row("SELECT * FROM versions WHERE bucket = ? AND key = ? AND version = ?", bucket, key, version)
        return self.row("SELECT * FROM versions WHERE bucket = ? AND key = ? ORDER BY seq DESC LIMIT 1", bucket, key)

    def put(self, bucket, key, bodies, etag, headers, marker=False, lock=(None, None, 0)):
        """Makes a version the newest; in a bucket without versioning it replaces the one before. -> version id"""
        versioned = self.bucket(bucket)["versioning"] == "Enabled"
        version = secrets.token_urlsafe(24) if versioned else "null"
        with self.transaction() as doomed:
            if not versioned:
                self.forget(self.find(bucket, key, "null"), doomed)
            self.db.execute(
                "INSERT INTO versions (bucket, key, version, marker, bodies, bytes, etag, headers, created_at, lock_mode,"
                " retain_until, legal_hold) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (bucket, key, version, int(marker), json.dumps(bodies), sum(size for _, size in bodies), etag,
                 json.dumps(headers), time.time(), *lock))
        return version

    def forget(self, version, doomed):
        if version is not None:
            self.db.execute("DELETE FROM versions WHERE seq = ?", (version["seq"],))
            doomed.extend(body for body, _ in json.loads(version["bodies"]))

    def delete_version(self, version):
        with self.transaction() as doomed:
            self.forget(version, doomed)

    def set_lock(self, version, mode, retain_until, legal_hold):
        self.rows("UPDATE versions SET lock_mode = ?, retain_until = ?, legal_hold = ? WHERE seq = ?",
                  mode, retain_until, legal_hold, version["seq"])

    def list_current(self, bucket, prefix, after, limit):
        """Newest versions that are not delete markers, by key."""
        return self.rows(
            "SELECT * FROM versions v WHERE bucket = ? AND key > ? AND substr(key, 1, length(?)) = ? AND marker = 0"
            " AND seq = (SELECT max(seq) FROM versions w WHERE w.bucket = v.bucket AND w.key = v.key)"
            " ORDER BY key LIMIT ?", bucket, after, prefix, prefix, limit)

    def list_versions(self, bucket, prefix, after="", limit=-1):
        """Behind the key `after`: who wants the rest of a key's versions asks behind the key before it."""
        return self.rows("SELECT * FROM versions WHERE bucket = ? AND key > ? AND substr(key, 1, length(?)) = ? ORDER BY key, seq DESC LIMIT ?",
                         bucket, after, prefix, prefix, limit)

    # multipart uploads

    def create_upload(self, bucket, key, headers):
        upload = secrets.token_urlsafe(32)
        self.rows("INSERT INTO uploads VALUES (?, ?, ?, ?, ?)", upload, bucket, key, json.dumps(headers), time.time())
        return upload

    def upload(self, bucket, key, upload):
        return self.row("SELECT * FROM uploads WHERE id = ? AND bucket = ? AND key = ?", upload, bucket, key)

    def uploads(self, bucket, prefix):
        return self.rows("SELECT * FROM uploads WHERE bucket = ? AND substr(key, 1, length(?)) = ? ORDER BY key, id",
                         bucket, prefix, prefix)

    def put_part(self, upload, number, body, size, etag):
        with self.transaction() as doomed:
            old = self.row("SELECT body FROM parts WHERE upload = ? AND number = ?", upload, number)
            if old:
                doomed.append(old["body"])
            self.db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)",
                            (upload, number, body, size, etag, time.time()))

    def parts(self, upload):
        return self.rows("SELECT * FROM parts WHERE upload = ? ORDER BY number", upload)

    def end_upload(self, upload, used=()):
        with self.transaction() as doomed:
            doomed.extend(part["body"] for part in self.parts(upload) if part["body"] not in used)
            self.db.execute("DELETE FROM parts WHERE upload = ?", (upload,))
            self.db.execute("DELETE FROM uploads WHERE id = ?", (upload,))


class Transaction:
    """BEGIN ... COMMIT under the store's lock; nests. Body files named in the list go after the commit."""

    def __init__(self, store):
        self.store, self.doomed = store, []

    def __enter__(self):
        self.store.lock.acquire()
        self.outer = self.store.db.in_transaction
        if not self.outer:
            self.store.db.execute("BEGIN IMMEDIATE")
        return self.doomed

    def __exit__(self, kind, value, trace):
        try:
            if not self.outer:
                self.store.db.execute("COMMIT" if kind is None else "ROLLBACK")
        finally:
            self.store.lock.release()
        if kind is None:
            for body in self.doomed:
                (self.store.bodies / body).unlink(missing_ok=True)
