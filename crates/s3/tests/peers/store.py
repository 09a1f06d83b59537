"""moto's S3 server, behind a door that checks what moto does not: signatures, as botocore makes them, and checksums.

Says its port as JSON, then serves until it is ended. The access key is `known`, the secret `a/secret+of=ours`.
"""

import base64
import hashlib
import io
import json
import sys
from urllib.parse import parse_qs

import boto3
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KNOWN = Credentials("known", "a/secret+of=ours")
BUCKET = sys.argv[1]


def refusal(environ):
    """The name of what is wrong with a request, and its status; none where nothing is."""
    raw = environ["RAW_URI"] if "RAW_URI" in environ else environ["REQUEST_URI"]
    path, _, query = raw.partition("?")
    told = {name: value[0] for name, value in parse_qs(query, keep_blank_values=True).items()}
    if "X-Amz-Signature" not in told:
        return "403 Forbidden", "AccessDenied"
    host = environ["HTTP_HOST"]
    unsigned = "&".join(it for it in query.split("&") if not it.startswith("X-Amz-Signature="))
    request = AWSRequest(method=environ["REQUEST_METHOD"], url=f"http://{host}{path}?{unsigned}")
    for name in told["X-Amz-SignedHeaders"].split(";"):
        request.headers[name] = environ.get("HTTP_" + name.upper().replace("-", "_"), "")
    request.context["timestamp"] = told["X-Amz-Date"]
    key, _, region, *_ = told["X-Amz-Credential"].split("/")
    if key != KNOWN.access_key:
        return "403 Forbidden", "InvalidAccessKeyId"
    auth = S3SigV4QueryAuth(KNOWN, "s3", region)
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    if expected != told["X-Amz-Signature"]:
        return "403 Forbidden", "SignatureDoesNotMatch"
    if environ["REQUEST_METHOD"] == "PUT":
        signed = told["X-Amz-SignedHeaders"].split(";")
        if "if-none-match" not in signed or "x-amz-checksum-sha256" not in signed:
            return "403 Forbidden", "AccessDenied"
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if digest != environ.get("HTTP_X_AMZ_CHECKSUM_SHA256"):
            return "400 Bad Request", "BadDigest"
    return None


class Door:
    def __init__(self, inner):
        self.inner = inner

    def __call__(self, environ, start):
        if wrong := refusal(environ):
            status, code = wrong
            body = f"<Error><Code>{code}</Code></Error>".encode()
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        return self.inner(environ, start)


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


inner = DomainDispatcherApplication(create_backend_app)
# The bucket is made past the door, in the same process.
bare = make_server("127.0.0.1", 0, inner, threaded=True, request_handler=Quiet)
import threading

threading.Thread(target=bare.serve_forever, daemon=True).start()
boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{bare.server_port}",
    region_name="us-east-1",
    aws_access_key_id=KNOWN.access_key,
    aws_secret_access_key=KNOWN.secret_key,
).create_bucket(Bucket=BUCKET)
server = make_server("127.0.0.1", 0, Door(inner), threaded=True, request_handler=Quiet)
print(json.dumps({"port": server.server_port}), flush=True)
server.serve_forever()
