"""KMS, Secrets Manager, CloudWatch Logs and STS answered by moto inside this process, with their state on disk.

moto keeps everything in memory; here each service's backend is saved after every call that may have changed it,
before the caller hears of success, and loaded at the start. It trusts its caller: signature and policy have been
checked by then. Key states are checked here, because moto decrypts with disabled keys.
"""
import base64
import datetime
import io
import json
import os
import pathlib
import pickle
import threading

from errors import AwsError

READS = ("Get", "List", "Describe", "Decrypt", "Encrypt", "GenerateDataKey", "GenerateRandom", "GenerateMac", "Sign", "Verify",
         "FilterLogEvents", "ReEncrypt")
KEY_USES = {"Encrypt", "Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair",
            "GenerateDataKeyPairWithoutPlaintext", "ReEncrypt", "Sign", "Verify", "GenerateMac", "VerifyMac"}
KEY_ID_BYTES = 36  # a moto ciphertext begins with the id of its key


def load_pem(pem):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    return load_pem_private_key(pem, None)


class KeyPickler(pickle.Pickler):
    """Private keys of `cryptography` do not pickle; their PEM does."""

    def reducer_override(self, value):
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
        if not hasattr(value, "private_bytes"):
            return NotImplemented
        return load_pem, (value.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),)


def skip_unused_private_keys():
    """moto makes an RSA key pair for symmetric keys too, which takes seconds on a busy machine and is never used."""
    from moto.kms import models
    made = models.generate_private_key
    models.generate_private_key = lambda spec: made(spec) if spec.startswith(("RSA", "ECC")) else None


class Moto:
    SERVICES = ("kms", "secretsmanager", "logs")

    def __init__(self, folder, account, region):
        os.environ.setdefault("MOTO_ACCOUNT_ID", account)
        from moto.backends import get_backend
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        skip_unused_private_keys()
        self.folder, self.account, self.region = pathlib.Path(folder), account, region
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.app = DomainDispatcherApplication(create_backend_app)
        self.backends = {name: get_backend(name)[account][region] for name in self.SERVICES}
        for name, backend in self.backends.items():
            file = self.folder / f"{name}.state"
            if file.exists():
                backend.__dict__.update(pickle.loads(file.read_bytes()))

    def save(self, service):
        buffer = io.BytesIO()
        KeyPickler(buffer).dump(self.backends[service].__dict__)
        target = self.folder / f"{service}.state"
        new = target.with_suffix(".new")
        with open(new, "wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, target)

    def call(self, service, action, headers, body):
        """-> (status, headers, body) of moto's answer, once a change is on disk."""
        answer = {}

        def start_response(status, reply_headers, exc_info=None):
            answer.update(status=int(status.split()[0]), headers=dict(reply_headers))
        environ = {
            "REQUEST_METHOD": "POST", "PATH_INFO": "/", "QUERY_STRING": "", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(), "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
            "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": headers.get("content-type", ""),
            "HTTP_HOST": f"{service}.{self.region}.amazonaws.com", "HTTP_X_AMZ_TARGET": headers.get("x-amz-target", ""),
            # moto reads only the service and region out of this
            "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential=x/20000101/{self.region}/{service}/aws4_request, "
                                  "SignedHeaders=host, Signature=x",
        }
        with self.lock:
            chunks = self.app(environ, start_response)
            payload = b"".join(chunks)
            if answer["status"] < 300 and not action.startswith(READS):
                self.save(service)
        return answer["status"], answer["headers"], payload


class Keys:
    """What the gateway must know of KMS keys before a call reaches moto: which key, its state, its tags."""

    def __init__(self, moto, may):
        self.moto, self.backend, self.may = moto, moto.backends["kms"], may

    def find(self, name):
        """-> moto's key for an id, ARN or alias; NotFoundException when there is none."""
        try:
            return self.backend.keys[self.backend.any_id_to_key_id(name)]
        except (KeyError, AttributeError, TypeError):
            raise AwsError("NotFoundException", f"Key '{name}' does not exist") from None

    def delete_due(self, ahead_s):
        """KMS deletes keys when their time has come; here, when a test says that it is so many seconds later."""
        now = datetime.datetime.now(datetime.timezone.utc).timestamp() + ahead_s
        with self.moto.lock:
            due = [key.id for key in self.backend.keys.values() if key.deletion_date and key.deletion_date.replace(tzinfo=datetime.timezone.utc).timestamp() <= now]
            for name in due:
                del self.backend.keys[name]
            if due:
                self.moto.save("kms")

    def tags(self, key):
        tags = self.backend.list_resource_tags(key.id)["Tags"]
        return {f"aws:ResourceTag/{tag['TagKey']}": tag["TagValue"] for tag in tags}

    def check(self, identity, action, body):
        """May this identity do it, on which key, and does the key's state allow it? -> the resource's ARN"""
        try:
            fields = json.loads(body or b"{}")
        except ValueError:
            raise AwsError("SerializationException", "the body is not JSON") from None
        if not isinstance(fields, dict):
            raise AwsError("SerializationException", "the body is not a JSON object")
        context = {f"kms:EncryptionContext:{name}": value for name, value in (fields.get("EncryptionContext") or {}).items()}
        if fields.get("EncryptionContext"):
            context["kms:EncryptionContextKeys"] = list(fields["EncryptionContext"])
        context |= {f"aws:RequestTag/{tag.get('TagKey')}": tag.get("TagValue") for tag in fields.get("Tags") or []}
        context |= {f"kms:{name}": fields[name] for name in ("SigningAlgorithm", "MessageType") if isinstance(fields.get(name), str)}
        name = fields.get("KeyId") or fields.get("TargetKeyId")
        if action == "Decrypt":
            name = self.key_of_ciphertext(fields, name)
        if action in ("CreateAlias", "DeleteAlias", "UpdateAlias"):
            alias = f"arn:aws:kms:{self.moto.region}:{self.moto.account}:{fields.get('AliasName')}"
            self.may(identity, f"kms:{action}", alias, context)
        if not name:
            resource = "*"
            if action != "DeleteAlias":
                self.may(identity, f"kms:{action}", resource, context)
            return resource
        key = self.find(name)
        self.may(identity, f"kms:{action}", key.arn, {**context, **self.tags(key)})
        self.check_state(key, action)
        return key.arn

    def key_of_ciphertext(self, fields, named):
        try:
            blob = base64.b64decode(fields.get("CiphertextBlob") or "", validate=True)
            key = self.find(blob[:KEY_ID_BYTES].decode("ascii"))
        except (ValueError, AwsError):
            raise AwsError("InvalidCiphertextException", "") from None
        if named and self.find(named).id != key.id:
            raise AwsError("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
        return key.id

    @staticmethod
    def check_state(key, action):
        if action not in KEY_USES:
            return
        if key.key_state == "PendingDeletion":
            raise AwsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
        if key.key_state == "Disabled":
            raise AwsError("DisabledException", f"{key.arn} is disabled.")

    def check_via(self, identity, name, action, service, context):
        """Another service uses a key in the caller's name, with an encryption context of its own."""
        key = self.find(name)
        self.may(identity, f"kms:{action}", key.arn, {**self.tags(key), "kms:ViaService": f"{service}.{self.moto.region}.amazonaws.com",
                                                      **{f"kms:EncryptionContext:{name}": value for name, value in context.items()}})
        self.check_state(key, action)

    def check_sse(self, identity, name, action):
        """S3 uses the caller's own right to the key that an object names."""
        if not name:
            return  # the account's own S3 key, which anybody who may read the object may use
        try:
            key = self.find(name)
        except AwsError:
            raise AwsError("KMS.NotFoundException", f"Key '{name}' does not exist") from None
        if key.key_state != "Enabled":
            raise AwsError("KMS.DisabledException", f"{key.arn} is not enabled")
        self.may(identity, f"kms:{action}", key.arn, {**self.tags(key), "kms:ViaService": f"s3.{self.moto.region}.amazonaws.com"})


class Secrets:
    """What the gateway must know of a secret before a call reaches moto: its ARN, and that its key may be used and is."""

    def __init__(self, moto, keys, may):
        self.moto, self.backend, self.keys, self.may = moto, moto.backends["secretsmanager"], keys, may

    def check(self, identity, action, body):
        """-> the resource's ARN"""
        try:
            fields = json.loads(body or b"{}")
            name = str(fields.get("SecretId") or fields.get("Name") or "")
        except (ValueError, AttributeError):
            raise AwsError("SerializationException", "the body is not a JSON object") from None
        secret = self.backend.secrets.get(name) if name else None
        arn = secret.arn if secret else name if name.startswith("arn:") else \
            f"arn:aws:secretsmanager:{self.moto.region}:{self.moto.account}:secret:{name}" if name else "*"
        self.may(identity, f"secretsmanager:{action}", arn)
        if secret and action == "GetSecretValue" and secret.kms_key_id:
            try:
                self.keys.check_via(identity, secret.kms_key_id, "Decrypt", "secretsmanager", {"SecretARN": arn})
            except AwsError as error:
                if "AccessDenied" in error.code:
                    raise AwsError("AccessDeniedException", "Access to KMS is not allowed") from None
                raise AwsError("DecryptionFailure", "Secrets Manager can't decrypt the protected secret text using the provided KMS key.") from None
        return arn
