"""The S3 protocol over s3_store: objects, ranges, multipart uploads, versions, Object Lock, SSE-KMS headers.

Every operation names its IAM action and resource before it touches anything.
"""
import base64
import binascii
import datetime
import email.utils
import hashlib
import json
import re
import time
import zlib
from urllib.parse import parse_qsl, quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from errors import AwsError

KEPT_HEADERS = ("content-type", "content-disposition", "content-encoding", "content-language", "cache-control", "expires",
                "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
                "x-amz-server-side-encryption-context", "x-amz-checksum-sha256", "x-amz-storage-class")
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
LARGEST_PUT = 5 << 30
SMALLEST_PART = 5 << 20
XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
# sub-resource in the query -> what the action's name ends in
BUCKET_ACTIONS = {
    ("GET", "uploads"): "ListBucketMultipartUploads", ("GET", "versions"): "ListBucketVersions",
    ("GET", "location"): "GetBucketLocation", ("GET", "versioning"): "GetBucketVersioning",
    ("PUT", "versioning"): "PutBucketVersioning", ("GET", "object-lock"): "GetBucketObjectLockConfiguration",
    ("PUT", "object-lock"): "PutBucketObjectLockConfiguration", ("GET", "encryption"): "GetEncryptionConfiguration",
    ("PUT", "encryption"): "PutEncryptionConfiguration", ("POST", "delete"): "DeleteObject",
    ("PUT", ""): "CreateBucket", ("DELETE", ""): "DeleteBucket", ("GET", ""): "ListBucket", ("HEAD", ""): "ListBucket",
}
OBJECT_ACTIONS = {
    ("GET", ""): "GetObject", ("HEAD", ""): "GetObject", ("PUT", ""): "PutObject", ("DELETE", ""): "DeleteObject",
    ("POST", "uploads"): "PutObject", ("PUT", "uploadId"): "PutObject", ("POST", "uploadId"): "PutObject",
    ("DELETE", "uploadId"): "AbortMultipartUpload", ("GET", "uploadId"): "ListMultipartUploadParts",
    ("GET", "retention"): "GetObjectRetention", ("PUT", "retention"): "PutObjectRetention",
    ("GET", "legal-hold"): "GetObjectLegalHold", ("PUT", "legal-hold"): "PutObjectLegalHold",
}
# What an SDK calls it, where the action's name says less.
OPERATIONS = {
    ("POST", "uploads"): "CreateMultipartUpload", ("PUT", "uploadId"): "UploadPart", ("POST", "uploadId"): "CompleteMultipartUpload",
    ("GET", "uploadId"): "ListParts", ("GET", "uploads"): "ListMultipartUploads", ("POST", "delete"): "DeleteObjects",
}


def iso(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def from_iso(text):
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        raise AwsError("InvalidArgument", "The retain until date must be provided in ISO 8601 format") from None


def xml(root, inner):
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} {XMLNS}>{inner}</{root}>'.encode()


def texts(body, tag):
    """All texts of elements called `tag`, whatever their namespace."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise AwsError("MalformedXML", "The XML you provided was not well-formed")
    try:
        return [e.text or "" for e in ElementTree.fromstring(body).iter() if e.tag.rpartition("}")[2] == tag]
    except ElementTree.ParseError:
        raise AwsError("MalformedXML", "The XML you provided was not well-formed") from None


class Reply:
    def __init__(self, status=200, headers=None, body=b"", chunks=None, length=None):
        self.status, self.headers, self.body, self.chunks = status, headers or {}, body, chunks
        self.length = len(body) if length is None else length


class Call:
    """One S3 request, taken apart: bucket, key, query, the action it stands for and the resource it names."""

    def __init__(self, request):
        self.request, self.headers, self.method = request, request.headers, request.method
        bucket, _, key = request.raw_path.lstrip("/").partition("/")
        self.bucket, self.key = unquote(bucket), unquote(key)
        self.query = dict(parse_qsl(request.raw_query, keep_blank_values=True))
        if not self.bucket:
            self.action, self.resource, self.sub, self.operation = "s3:ListAllMyBuckets", "*", "", "ListBuckets"
            return
        table = OBJECT_ACTIONS if self.key else BUCKET_ACTIONS
        self.sub = next((sub for (method, sub) in table if sub and method == self.method and sub in self.query), "")
        if (self.method, self.sub) not in table:
            raise AwsError("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)
        name = table[self.method, self.sub]
        self.operation = OPERATIONS.get((self.method, self.sub), name)
        if self.method == "HEAD":
            self.operation = "HeadObject" if self.key else "HeadBucket"
        if self.key and "x-amz-copy-source" in self.headers:
            self.operation = "CopyObject"
        if self.query.get("versionId") and name in ("GetObject", "DeleteObject"):
            name += "Version"
        self.action = f"s3:{name}"
        self.resource = f"arn:aws:s3:::{self.bucket}" + (f"/{self.key}" if self.key else "")
        if self.sub == "delete":
            self.resource += "/*"

    @property
    def context(self):
        names = {"prefix": "s3:prefix", "delimiter": "s3:delimiter", "versionId": "s3:VersionId"}
        found = {context: self.query[name] for name, context in names.items() if name in self.query}
        found |= {f"s3:{name}": value for name, value in self.headers.items()
                  if name in ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id")}
        if "x-amz-object-lock-mode" in self.headers:
            found["s3:object-lock-mode"] = self.headers["x-amz-object-lock-mode"]
        if "if-none-match" in self.headers:
            found["s3:if-none-match"] = self.headers["if-none-match"]
        return found


class S3:
    """keys: check_sse(identity, key id, action) refuses a KMS key that is missing, disabled or not the caller's."""

    def __init__(self, store, keys):
        self.store, self.keys = store, keys

    def handle(self, call, identity, take_body):
        """take_body(sink or None): reads and verifies the body into sink.write(), or returns it when small."""
        if not call.bucket:
            names = self.store.rows("SELECT * FROM buckets ORDER BY name")
            inner = "".join(f"<Bucket><Name>{b['name']}</Name><CreationDate>{iso(b['created_at'])}</CreationDate></Bucket>"
                            for b in names)
            return self.page("ListAllMyBucketsResult", f"<Buckets>{inner}</Buckets>")
        bucket = self.store.bucket(call.bucket)
        if bucket is None and (call.key or call.method != "PUT" or call.sub):
            raise AwsError("NoSuchBucket", "The specified bucket does not exist", 404, BucketName=call.bucket)
        level = "object" if call.key else "bucket"
        method = getattr(self, f"{level}_{call.method.lower()}_{call.sub.replace('-', '_').lower()}".rstrip("_"))
        return method(call, bucket, identity, take_body)

    @staticmethod
    def page(root, inner):
        return Reply(headers={"Content-Type": "application/xml"}, body=xml(root, inner))

    # buckets

    def bucket_put(self, call, bucket, identity, take_body):
        take_body(None)
        if not BUCKET_NAME.fullmatch(call.bucket):
            raise AwsError("InvalidBucketName", "The specified bucket is not valid.")
        if bucket is not None:
            raise AwsError("BucketAlreadyOwnedByYou", "You already own this bucket.", 409)
        self.store.create_bucket(call.bucket, call.headers.get("x-amz-bucket-object-lock-enabled") == "true")
        return Reply(headers={"Location": f"/{call.bucket}"})

    def bucket_head(self, call, bucket, identity, take_body):
        return Reply(headers={"x-amz-bucket-region": "us-east-1"})

    def bucket_delete(self, call, bucket, identity, take_body):
        if self.store.list_versions(call.bucket, ""):
            raise AwsError("BucketNotEmpty", "The bucket you tried to delete is not empty", 409)
        self.store.delete_bucket(call.bucket)
        return Reply(204)

    def bucket_get_location(self, call, bucket, identity, take_body):
        return self.page("LocationConstraint", "")

    def bucket_get_versioning(self, call, bucket, identity, take_body):
        status = f"<Status>{bucket['versioning']}</Status>" if bucket["versioning"] else ""
        return self.page("VersioningConfiguration", status)

    def bucket_put_versioning(self, call, bucket, identity, take_body):
        status = (texts(take_body(None), "Status") or [""])[0]
        if status not in ("Enabled", "Suspended") or (bucket["object_lock"] and status != "Enabled"):
            raise AwsError("InvalidBucketState", "The versioning state cannot be changed so", 409)
        self.store.set_bucket(call.bucket, "versioning", status)
        return Reply()

    def bucket_get_object_lock(self, call, bucket, identity, take_body):
        if not bucket["object_lock"]:
            raise AwsError("ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist", 404)
        rule = json.loads(bucket["retention"] or "{}")
        inner = (f"<Rule><DefaultRetention><Mode>{rule['mode']}</Mode><Days>{rule['days']}</Days></DefaultRetention></Rule>"
                 if rule else "")
        return self.page("ObjectLockConfiguration", f"<ObjectLockEnabled>Enabled</ObjectLockEnabled>{inner}")

    def bucket_put_object_lock(self, call, bucket, identity, take_body):
        body = take_body(None)
        if not bucket["object_lock"]:
            raise AwsError("InvalidBucketState", "Object Lock must be enabled when the bucket is created", 409)
        mode, days = texts(body, "Mode"), texts(body, "Days")
        rule = json.dumps({"mode": mode[0], "days": int(days[0])}) if mode and days else None
        self.store.set_bucket(call.bucket, "retention", rule)
        return Reply()

    def bucket_get_encryption(self, call, bucket, identity, take_body):
        rule = json.loads(bucket["encryption"] or '{"algorithm": "AES256"}')
        key = f"<KMSMasterKeyID>{rule['key']}</KMSMasterKeyID>" if rule.get("key") else ""
        return self.page("ServerSideEncryptionConfiguration", "<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>"
                         f"{rule['algorithm']}</SSEAlgorithm>{key}</ApplyServerSideEncryptionByDefault></Rule>")

    def bucket_put_encryption(self, call, bucket, identity, take_body):
        body = take_body(None)
        algorithm, key = texts(body, "SSEAlgorithm"), texts(body, "KMSMasterKeyID")
        if not algorithm or algorithm[0] not in ("AES256", "aws:kms"):
            raise AwsError("MalformedXML", "SSEAlgorithm must be AES256 or aws:kms")
        self.store.set_bucket(call.bucket, "encryption", json.dumps({"algorithm": algorithm[0], "key": (key or [None])[0]}))
        return Reply()

    def bucket_get(self, call, bucket, identity, take_body):
        query = call.query
        limit = min(int(query.get("max-keys", "1000")), 1000)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = base64.urlsafe_b64decode(query["continuation-token"]).decode() if "continuation-token" in query \
            else query.get("start-after", query.get("marker", ""))
        contents, groups, truncated, last = [], [], False, after
        while not truncated:
            batch = self.store.list_current(call.bucket, prefix, last, 1000)
            for row in batch:
                cut = row["key"].find(delimiter, len(prefix)) if delimiter else -1
                group = row["key"][:cut + len(delimiter)] if cut >= 0 else None
                if group in groups and group is not None:
                    last = row["key"]
                    continue
                if len(contents) + len(groups) >= limit:
                    truncated = True
                    break
                last = row["key"]
                groups.append(group) if group is not None else contents.append(row)
            if len(batch) < 1000:
                break
        inner = f"<Name>{call.bucket}</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>{limit}</MaxKeys>"
        inner += f"<KeyCount>{len(contents) + len(groups)}</KeyCount><IsTruncated>{str(truncated).lower()}</IsTruncated>"
        if truncated:
            inner += f"<NextContinuationToken>{base64.urlsafe_b64encode(last.encode()).decode()}</NextContinuationToken>"
        encode = quote if query.get("encoding-type") == "url" else escape
        if query.get("encoding-type") == "url":
            inner += "<EncodingType>url</EncodingType>"
        for row in contents:
            inner += (f"<Contents><Key>{encode(row['key'])}</Key><LastModified>{iso(row['created_at'])}</LastModified>"
                      f"<ETag>&quot;{row['etag']}&quot;</ETag><Size>{row['bytes']}</Size><StorageClass>STANDARD</StorageClass></Contents>")
        inner += "".join(f"<CommonPrefixes><Prefix>{encode(group)}</Prefix></CommonPrefixes>" for group in groups)
        return self.page("ListBucketResult", inner)

    def bucket_get_versions(self, call, bucket, identity, take_body):
        limit, after = min(int(call.query.get("max-keys", "1000")), 1000), call.query.get("key-marker", "")
        rows = self.store.list_versions(call.bucket, call.query.get("prefix", ""), after, limit + 1)
        inner, seen = f"<Name>{call.bucket}</Name><MaxKeys>{limit}</MaxKeys><IsTruncated>{str(len(rows) > limit).lower()}</IsTruncated>", set()
        if len(rows) > limit:
            inner += f"<NextKeyMarker>{escape(rows[limit - 1]['key'])}</NextKeyMarker><NextVersionIdMarker>{rows[limit - 1]['version']}</NextVersionIdMarker>"
        for row in rows[:limit]:
            tag = "DeleteMarker" if row["marker"] else "Version"
            size = "" if row["marker"] else f"<ETag>&quot;{row['etag']}&quot;</ETag><Size>{row['bytes']}</Size>"
            inner += (f"<{tag}><Key>{escape(row['key'])}</Key><VersionId>{row['version']}</VersionId>"
                      f"<IsLatest>{str(row['key'] not in seen).lower()}</IsLatest>"
                      f"<LastModified>{iso(row['created_at'])}</LastModified>{size}</{tag}>")
            seen.add(row["key"])
        return self.page("ListVersionsResult", inner)

    def bucket_get_uploads(self, call, bucket, identity, take_body):
        query, inner = call.query, f"<Bucket>{call.bucket}</Bucket>"
        limit, after = min(int(query.get("max-uploads", "1000")), 1000), (query.get("key-marker", ""), query.get("upload-id-marker", ""))
        # without an upload-id-marker, a page begins behind the key itself
        rows = [row for row in self.store.uploads(call.bucket, query.get("prefix", ""))
                if ((row["key"], row["id"]) > after if after[1] else row["key"] > after[0])]
        page = rows[:limit]
        inner += f"<MaxUploads>{limit}</MaxUploads><IsTruncated>{str(len(rows) > limit).lower()}</IsTruncated>"
        if len(rows) > limit:
            inner += (f"<NextKeyMarker>{escape(page[-1]['key'])}</NextKeyMarker>"
                      f"<NextUploadIdMarker>{page[-1]['id']}</NextUploadIdMarker>")
        for row in page:
            inner += (f"<Upload><Key>{escape(row['key'])}</Key><UploadId>{row['id']}</UploadId>"
                      f"<Initiated>{iso(row['created_at'])}</Initiated></Upload>")
        return self.page("ListMultipartUploadsResult", inner)

    def bucket_post_delete(self, call, bucket, identity, take_body):
        inner = ""
        for key in texts(take_body(None), "Key"):
            self.delete(bucket, key, None)
            inner += f"<Deleted><Key>{escape(key)}</Key></Deleted>"
        return self.page("DeleteResult", inner)

    # objects

    def object_put(self, call, bucket, identity, take_body):
        if call.headers.get("if-none-match") == "*" and self.live(call.bucket, call.key):
            raise AwsError("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
        headers, lock = self.new_headers(call, bucket, identity), self.new_lock(call, bucket)
        if "x-amz-copy-source" in call.headers:
            return self.copy(call, bucket, headers, lock)
        incoming = self.receive(call, take_body)
        etag = incoming.md5.hexdigest()
        version = self.store.put(call.bucket, call.key, [[incoming.keep(), incoming.bytes]], etag, headers, lock=lock)
        return Reply(headers={"ETag": f'"{etag}"', **self.version_header(version), **self.sse_headers(headers), **self.checksum_of(call)})

    def copy(self, call, bucket, headers, lock):
        source_bucket, _, rest = unquote(call.headers["x-amz-copy-source"]).lstrip("/").partition("/")
        source = self.live(source_bucket, rest.partition("?versionId=")[0])
        if source is None:
            raise AwsError("NoSuchKey", "The specified key does not exist.", 404)
        if call.headers.get("x-amz-metadata-directive") != "REPLACE":
            headers = {**json.loads(source["headers"]), **self.sse_headers(headers)}
        incoming = self.store.incoming()
        for chunk in self.store.read(source, 0, source["bytes"]):
            incoming.write(chunk)
        etag = incoming.md5.hexdigest()
        version = self.store.put(call.bucket, call.key, [[incoming.keep(), incoming.bytes]], etag, headers, lock=lock)
        reply = self.page("CopyObjectResult", f"<ETag>&quot;{etag}&quot;</ETag><LastModified>{iso(time.time())}</LastModified>")
        reply.headers |= self.version_header(version)
        return reply

    def object_get(self, call, bucket, identity, take_body, send=True):
        version = self.existing(call)
        kept = json.loads(version["headers"])
        if kept.get("x-amz-server-side-encryption") == "aws:kms":
            self.keys.check_sse(identity, kept.get("x-amz-server-side-encryption-aws-kms-key-id"), "Decrypt")
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{version["etag"]}"', **self.version_header(version["version"]),
                   "Last-Modified": email.utils.formatdate(version["created_at"], usegmt=True), **kept}
        headers.setdefault("content-type", "binary/octet-stream")
        for name in ("content-type", "content-disposition", "cache-control", "content-encoding", "content-language"):
            if f"response-{name}" in call.query:
                headers[name] = call.query[f"response-{name}"]
        if version["lock_mode"]:
            headers |= {"x-amz-object-lock-mode": version["lock_mode"],
                        "x-amz-object-lock-retain-until-date": iso(version["retain_until"])}
        if call.headers.get("if-match", headers["ETag"]).strip('"') not in (version["etag"], "*"):
            raise AwsError("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
        if call.headers.get("if-none-match", "").strip('"') in (version["etag"], "*"):
            return Reply(304, {"ETag": headers["ETag"]})
        start, length, partial = self.range_of(call.headers.get("range"), version["bytes"])
        if partial:
            headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{version['bytes']}"
        chunks = self.store.read(version, start, length) if send and length else None
        return Reply(206 if partial else 200, headers, chunks=chunks, length=length)

    def object_head(self, call, bucket, identity, take_body):
        return self.object_get(call, bucket, identity, take_body, send=False)

    def object_delete(self, call, bucket, identity, take_body):
        return self.delete(bucket, call.key, call.query.get("versionId"))

    def delete(self, bucket, key, version_id):
        if version_id is None and bucket["versioning"] == "Enabled":
            marker = self.store.put(bucket["name"], key, [], "", {}, marker=True)
            return Reply(204, {"x-amz-delete-marker": "true", **self.version_header(marker)})
        version = self.store.find(bucket["name"], key, version_id)
        if version is not None:
            if version["legal_hold"] or (version["retain_until"] or 0) > time.time():
                raise AwsError("AccessDenied", "Access Denied because object protected by object lock.", 403)
            self.store.delete_version(version)
        return Reply(204, self.version_header(version_id))

    def object_get_retention(self, call, bucket, identity, take_body):
        version = self.existing(call)
        if not version["lock_mode"]:
            raise AwsError("NoSuchObjectLockConfiguration", "The specified object does not have a ObjectLock configuration", 404)
        return self.page("Retention", f"<Mode>{version['lock_mode']}</Mode>"
                         f"<RetainUntilDate>{iso(version['retain_until'])}</RetainUntilDate>")

    def object_put_retention(self, call, bucket, identity, take_body):
        body, version = take_body(None), self.existing(call)
        mode, until = (texts(body, "Mode") or [None])[0], from_iso((texts(body, "RetainUntilDate") or [""])[0])
        if not bucket["object_lock"]:
            raise AwsError("InvalidRequest", "Bucket is missing Object Lock Configuration")
        locked = version["lock_mode"] == "COMPLIANCE" and (version["retain_until"] or 0) > time.time()
        if locked and (mode != "COMPLIANCE" or until < version["retain_until"]):
            raise AwsError("AccessDenied", "Access Denied because object protected by object lock.", 403)
        self.store.set_lock(version, mode, until, version["legal_hold"])
        return Reply()

    def object_get_legal_hold(self, call, bucket, identity, take_body):
        return self.page("LegalHold", f"<Status>{'ON' if self.existing(call)['legal_hold'] else 'OFF'}</Status>")

    def object_put_legal_hold(self, call, bucket, identity, take_body):
        body, version = take_body(None), self.existing(call)
        if not bucket["object_lock"]:
            raise AwsError("InvalidRequest", "Bucket is missing Object Lock Configuration")
        hold = int(texts(body, "Status") == ["ON"])
        self.store.set_lock(version, version["lock_mode"], version["retain_until"], hold)
        return Reply()

    # multipart uploads

    def object_post_uploads(self, call, bucket, identity, take_body):
        take_body(None)
        headers = self.new_headers(call, bucket, identity)
        upload = self.store.create_upload(call.bucket, call.key, headers)
        reply = self.page("InitiateMultipartUploadResult", f"<Bucket>{call.bucket}</Bucket><Key>{escape(call.key)}</Key>"
                          f"<UploadId>{upload}</UploadId>")
        reply.headers |= self.sse_headers(headers)
        return reply

    def object_put_uploadid(self, call, bucket, identity, take_body):
        upload, number = self.upload_of(call), call.query.get("partNumber", "")
        if not number.isdigit() or not 1 <= int(number) <= 10000:
            raise AwsError("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
        incoming = self.receive(call, take_body)
        etag = incoming.md5.hexdigest()
        self.store.put_part(upload["id"], int(number), incoming.keep(), incoming.bytes, etag)
        return Reply(headers={"ETag": f'"{etag}"', **self.sse_headers(json.loads(upload["headers"])), **self.checksum_of(call)})

    def object_get_uploadid(self, call, bucket, identity, take_body):
        upload = self.upload_of(call)
        inner = f"<Bucket>{call.bucket}</Bucket><Key>{escape(call.key)}</Key><UploadId>{upload['id']}</UploadId>"
        inner += "<IsTruncated>false</IsTruncated>"
        for part in self.store.parts(upload["id"]):
            inner += (f"<Part><PartNumber>{part['number']}</PartNumber><LastModified>{iso(part['created_at'])}</LastModified>"
                      f"<ETag>&quot;{part['etag']}&quot;</ETag><Size>{part['bytes']}</Size></Part>")
        return self.page("ListPartsResult", inner)

    def object_post_uploadid(self, call, bucket, identity, take_body):
        body, upload = take_body(None), self.upload_of(call)
        numbers = [int(number) if number.isdigit() else 0 for number in texts(body, "PartNumber")]
        etags = [etag.strip('"') for etag in texts(body, "ETag")]
        have = {part["number"]: part for part in self.store.parts(upload["id"])}
        if not numbers or numbers != sorted(set(numbers)):
            raise AwsError("InvalidPartOrder", "The list of parts was not in ascending order.")
        if len(etags) != len(numbers) or any(n not in have or have[n]["etag"] != e for n, e in zip(numbers, etags)):
            raise AwsError("InvalidPart", "One or more of the specified parts could not be found.")
        parts = [have[number] for number in numbers]
        if any(part["bytes"] < SMALLEST_PART for part in parts[:-1]):
            raise AwsError("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        digest = hashlib.md5(b"".join(bytes.fromhex(part["etag"]) for part in parts)).hexdigest()
        etag, headers = f"{digest}-{len(parts)}", json.loads(upload["headers"])
        with self.store.transaction():
            version = self.store.put(call.bucket, call.key, [[p["body"], p["bytes"]] for p in parts], etag, headers,
                                     lock=self.new_lock(call, bucket))
            self.store.end_upload(upload["id"], used={part["body"] for part in parts})
        reply = self.page("CompleteMultipartUploadResult", f"<Location>/{call.bucket}/{escape(quote(call.key))}</Location>"
                          f"<Bucket>{call.bucket}</Bucket><Key>{escape(call.key)}</Key><ETag>&quot;{etag}&quot;</ETag>")
        reply.headers |= {**self.version_header(version), **self.sse_headers(headers)}
        return reply

    def object_delete_uploadid(self, call, bucket, identity, take_body):
        self.store.end_upload(self.upload_of(call)["id"])
        return Reply(204)

    # what the operations share

    def live(self, bucket, key):
        version = self.store.find(bucket, key)
        return None if version is None or version["marker"] else version

    def existing(self, call):
        version = self.store.find(call.bucket, call.key, call.query.get("versionId"))
        if version is None or version["marker"]:
            if call.query.get("versionId") and version is None:
                raise AwsError("NoSuchVersion", "The specified version does not exist.", 404)
            raise AwsError("NoSuchKey", "The specified key does not exist.", 404, Key=call.key)
        return version

    def upload_of(self, call):
        upload = self.store.upload(call.bucket, call.key, call.query.get("uploadId", ""))
        if upload is None:
            raise AwsError("NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, "
                           "or the upload may have been aborted or completed.", 404)
        return upload

    def receive(self, call, take_body):
        """The request's body as an Incoming whose hashes agree with every one that the request promised."""
        incoming = self.store.incoming()
        try:
            take_body(incoming)
            if incoming.bytes > LARGEST_PUT:
                raise AwsError("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
            self.check_promises(call, incoming)
        except BaseException:
            incoming.discard()
            raise
        return incoming

    def check_promises(self, call, incoming):
        promised = {"content-md5": incoming.md5.digest(), "x-amz-checksum-sha256": incoming.sha256.digest()}
        for name, actual in promised.items():
            if name in call.headers:
                try:
                    given = base64.b64decode(call.headers[name], validate=True)
                except binascii.Error:
                    raise AwsError("InvalidDigest", f"The {name} you specified was invalid") from None
                if given != actual:
                    raise AwsError("BadDigest", f"The {name} you specified did not match what we received.")
        if "x-amz-checksum-crc32" in call.headers:
            incoming.file.flush()
            value = 0
            with open(incoming.path, "rb") as file:
                while chunk := file.read(1 << 20):
                    value = zlib.crc32(chunk, value)
            if base64.b64encode(value.to_bytes(4, "big")).decode() != call.headers["x-amz-checksum-crc32"]:
                raise AwsError("BadDigest", "The CRC32 you specified did not match what we received.")

    def new_headers(self, call, bucket, identity):
        headers = {name: value for name, value in call.headers.items()
                   if name in KEPT_HEADERS or name.startswith("x-amz-meta-")}
        algorithm = headers.get("x-amz-server-side-encryption")
        if algorithm is None:
            rule = json.loads(bucket["encryption"] or '{"algorithm": "AES256"}')
            headers["x-amz-server-side-encryption"] = algorithm = rule["algorithm"]
            if rule.get("key"):
                headers["x-amz-server-side-encryption-aws-kms-key-id"] = rule["key"]
        if algorithm not in ("AES256", "aws:kms"):
            raise AwsError("InvalidArgument", "The encryption method specified is not supported")
        if algorithm == "aws:kms":
            self.keys.check_sse(identity, headers.get("x-amz-server-side-encryption-aws-kms-key-id"), "GenerateDataKey")
        return headers

    @staticmethod
    def new_lock(call, bucket):
        mode = call.headers.get("x-amz-object-lock-mode")
        hold = int(call.headers.get("x-amz-object-lock-legal-hold") == "ON")
        if (mode or hold) and not bucket["object_lock"]:
            raise AwsError("InvalidRequest", "Bucket is missing Object Lock Configuration")
        if mode:
            return mode, from_iso(call.headers.get("x-amz-object-lock-retain-until-date", "")), hold
        rule = json.loads(bucket["retention"] or "{}")
        if rule:
            return rule["mode"], time.time() + rule["days"] * 86400, hold
        return None, None, hold

    @staticmethod
    def sse_headers(headers):
        return {name: value for name, value in headers.items() if name.startswith("x-amz-server-side-encryption")}

    @staticmethod
    def checksum_of(call):
        """What was promised, and verified by now, is named again."""
        return {name: value for name, value in call.headers.items() if name == "x-amz-checksum-sha256"}

    @staticmethod
    def version_header(version):
        return {"x-amz-version-id": version} if version not in (None, "null") else {}

    @staticmethod
    def range_of(header, size):
        """-> (start, length, partial). A header that is not one byte range is ignored, as S3 does."""
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
        if not match or match.group(1) == match.group(2) == "":
            return 0, size, False
        first, last = match.groups()
        start = max(size - int(last), 0) if first == "" else int(first)
        end = size - 1 if first == "" or last == "" else min(int(last), size - 1)
        if start >= size or end < start:
            raise AwsError("InvalidRange", "The requested range is not satisfiable", 416, ActualObjectSize=size)
        return start, end - start + 1, True
