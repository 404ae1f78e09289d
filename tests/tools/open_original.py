#!/usr/bin/python3
"""Opens an original of Cordon with nothing of Cordon: Debian's boto3, cryptography and psycopg2, and docs/objects.md.

  open_original.py DATABASE_URL DOCUMENT_ID [FROM LENGTH]     the plain bytes go to standard output

AWS is found as boto3 finds it (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL_KMS, AWS_ACCESS_KEY_ID, ...), the buckets by CORDON_DOCUMENT_BUCKET
and CORDON_SHARE_BUCKET. The database's role must see past row security. With FROM and LENGTH only the frames that hold these bytes are fetched."""
import hashlib
import hmac
import os
import struct
import sys
import uuid

import boto3
import botocore.config
import psycopg2
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HEADER, TAG = 13, 16


def bound(purpose, *parts):
    """Associated data: typed parts, each type, length, bytes."""
    out = struct.pack(">BI", 1, len(purpose)) + purpose.encode()
    for part in parts:
        kind, data = (2, part.bytes) if isinstance(part, uuid.UUID) else (3, struct.pack(">Q", part))
        out += struct.pack(">BI", kind, len(data)) + data
    return out


def open_blob(key, blob, aad):
    """u8 version | 12 bytes nonce | ciphertext and tag; the version byte is authenticated too."""
    assert blob[0] == 1, "a blob of another version"
    return AESGCM(key).decrypt(blob[1:13], blob[13:], b"\x01" + aad)


def client(service):
    url = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}")
    return boto3.client(service, endpoint_url=url, region_name=os.environ["AWS_REGION"],
                        config=botocore.config.Config(s3={"addressing_style": "path"} if url else {}))


def original_key(db, s3, kms, document):
    """-> the key of the document's original, its tenant, its length."""
    with db.cursor() as cursor:
        cursor.execute("SELECT d.tenant_id::text, d.bytes, k.version, k.wrapped, t.blob FROM app.documents d JOIN keys.document_keys k ON "
                       "(k.tenant_id, k.document_id) = (d.tenant_id, d.id) JOIN keys.tenant_keys t ON (t.tenant_id, t.version, t.kind) = "
                       "(k.tenant_id, k.version, 'data') WHERE d.id = %s", (str(document),))
        tenant, length, version, wrapped, blob = cursor.fetchone()
    tenant, wrapped = uuid.UUID(tenant), bytes(wrapped)
    tenant_key = kms.decrypt(CiphertextBlob=bytes(blob), EncryptionContext={"tenant_id": str(tenant), "purpose": "data"})["Plaintext"]
    if wrapped[0] == 2:         # the first of two shares
        root = open_blob(tenant_key, wrapped[1:], bound("cordon document key share v1", tenant, document, version))
        share = s3.get_object(Bucket=os.environ["CORDON_SHARE_BUCKET"], Key=f"tenants/{tenant}/{document}")["Body"].read()
        assert len(share) == 33 and share[0] == 1, "no share"
        root = bytes(a ^ b for a, b in zip(root, share[1:]))
    else:
        root = open_blob(tenant_key, wrapped, bound("cordon document key v1", tenant, document, version))
    return hmac.new(root, b"cordon original v1", hashlib.sha256).digest(), tenant, length


def open_frames(key, header, aad, frames, first, last):
    """frames: the sealed bytes of frame `first` and those behind it; last: number of the file's last frame."""
    assert header[:4] == b"CRDN" and header[4] == 1, "no sealed original of version 1"
    size = (1 << header[5]) + TAG
    for at in range(0, len(frames), size):
        number = first + at // size
        nonce = header[6:13] + struct.pack(">IB", number, number == last)
        yield AESGCM(key).decrypt(nonce, frames[at:at + size], header + aad)


def main(url, document, begin=None, length=None):
    document, s3, kms = uuid.UUID(document), client("s3"), client("kms")
    db = psycopg2.connect(url)
    key, tenant, total = original_key(db, s3, kms, document)
    begin, length = int(begin or 0), int(length or total)
    place = {"Bucket": os.environ["CORDON_DOCUMENT_BUCKET"], "Key": f"tenants/{tenant}/{document}"}

    def fetch(at, count):
        return s3.get_object(**place, Range=f"bytes={at}-{at + count - 1}")["Body"].read()

    header = fetch(0, HEADER)
    frame = 1 << header[5]
    first, end, last = begin // frame, (begin + length - 1) // frame, (total - 1) // frame
    sealed = fetch(HEADER + first * (frame + TAG), (end - first + 1) * (frame + TAG))
    plain = b"".join(open_frames(key, header, bound("cordon original v1", tenant, document), sealed, first, last))
    sys.stdout.buffer.write(plain[begin - first * frame:][:length])


if __name__ == "__main__":
    main(*sys.argv[1:])
