"""Verifies a log with `aics-tlog` from PyPI: the checkpoint's signature, a witness' cosignature,
every tile, every entry.

    aics.py DIRECTORY VKEY WITNESS
"""

import base64
import pathlib
import sys

import aics_tlog
from aics_tlog.checkpoint import checkpoint_from_note, verify_checkpoint
from aics_tlog.verified import audit_tiles

directory, vkey, witness = sys.argv[1:]
checkpoint, note = checkpoint_from_note(pathlib.Path(directory, "checkpoint").read_bytes())
result = verify_checkpoint(
    note, aics_tlog.parse_vkey(vkey), [aics_tlog.parse_vkey(witness)], quorum=1
)
if not result.ok:
    sys.exit(str(result))
report = audit_tiles(
    aics_tlog.FileSystemTileReader(directory), checkpoint.size, checkpoint.root
)
print(report.size, base64.b64encode(checkpoint.root).decode())
