"""How AWS says no: one class for a refusal, and the document each protocol wraps it in."""
import json
from xml.sax.saxutils import escape

S3, QUERY, JSON, REST = "s3", "query", "json", "rest"
PROTOCOLS = {"s3": S3, "sts": QUERY, "kms": JSON, "secretsmanager": JSON, "logs": JSON, "bedrock": REST}

# The same refusal has another name and status in each protocol family.
NAMES = {
    "no-signature": {S3: ("AccessDenied", 403), QUERY: ("MissingAuthenticationToken", 403),
                     JSON: ("MissingAuthenticationTokenException", 400), REST: ("MissingAuthenticationTokenException", 403)},
    "malformed": {S3: ("AuthorizationHeaderMalformed", 400), QUERY: ("IncompleteSignature", 400),
                  JSON: ("IncompleteSignatureException", 400), REST: ("IncompleteSignatureException", 403)},
    "unknown-key": {S3: ("InvalidAccessKeyId", 403), QUERY: ("InvalidClientTokenId", 403),
                    JSON: ("UnrecognizedClientException", 400), REST: ("UnrecognizedClientException", 403)},
    "bad-signature": {S3: ("SignatureDoesNotMatch", 403), QUERY: ("SignatureDoesNotMatch", 403),
                      JSON: ("InvalidSignatureException", 400), REST: ("InvalidSignatureException", 403)},
    "skewed": {S3: ("RequestTimeTooSkewed", 403), QUERY: ("SignatureDoesNotMatch", 403),
               JSON: ("InvalidSignatureException", 400), REST: ("InvalidSignatureException", 403)},
    "expired": {S3: ("AccessDenied", 403), QUERY: ("RequestExpired", 400),
                JSON: ("RequestExpired", 400), REST: ("RequestExpired", 400)},
    "expired-token": {S3: ("ExpiredToken", 400), QUERY: ("ExpiredToken", 403),
                      JSON: ("ExpiredTokenException", 400), REST: ("ExpiredTokenException", 403)},
    "wrong-body": {S3: ("XAmzContentSHA256Mismatch", 400), QUERY: ("SignatureDoesNotMatch", 403),
                   JSON: ("InvalidSignatureException", 400), REST: ("InvalidSignatureException", 403)},
    "denied": {S3: ("AccessDenied", 403), QUERY: ("AccessDenied", 403),
               JSON: ("AccessDeniedException", 400), REST: ("AccessDeniedException", 403)},
}


class AwsError(Exception):
    """A refusal with the code and HTTP status that the service would have sent."""

    def __init__(self, code, message, status=400, **fields):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.fields = code, message, status, fields


def refuse(kind, service, message):
    code, status = NAMES[kind][PROTOCOLS.get(service, REST)]
    return AwsError(code, message, status)


def document(error, service, request_id):
    """-> (content type, body, extra headers) in the protocol of the service."""
    protocol = PROTOCOLS.get(service, REST)
    if protocol == S3:
        extra = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in error.fields.items())
        body = (f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{error.code}</Code>'
                f"<Message>{escape(error.message)}</Message>{extra}<RequestId>{request_id}</RequestId></Error>")
        return "application/xml", body.encode(), {}
    if protocol == QUERY:
        body = ('<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
                f"<Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
                f"<RequestId>{request_id}</RequestId></ErrorResponse>")
        return "text/xml", body.encode(), {}
    headers = {"x-amzn-ErrorType": error.code}
    if protocol == REST:
        return "application/json", json.dumps({"message": error.message}).encode(), headers
    return "application/x-amz-json-1.1", json.dumps({"__type": error.code, "message": error.message}).encode(), headers
