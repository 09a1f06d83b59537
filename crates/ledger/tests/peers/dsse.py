"""Verifies a DSSE envelope with securesystemslib and prints the in-toto statement in it.

    dsse.py ENVELOPE PUBLIC_KEY_PEM

Ends with 1 where the signature does not hold.
"""
import json
import sys

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

with open(sys.argv[1], encoding="utf-8") as file:
    carried = json.load(file)
with open(sys.argv[2], "rb") as file:
    public = load_pem_public_key(file.read())
# The library matches keys by the hint that a signature bears.
key = SSlibKey.from_crypto(public, keyid=carried["signatures"][0]["keyid"])
envelope = Envelope.from_dict(carried)
try:
    envelope.verify([key], 1)
except VerificationError as error:
    sys.exit(f"does not hold: {error}")
if envelope.payload_type != "application/vnd.in-toto+json":
    sys.exit(f"holds {envelope.payload_type}")
print(json.dumps(json.loads(envelope.payload), sort_keys=True))
