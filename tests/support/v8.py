"""V8 itself, where node is installed: the judge of canonical JSON."""

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence

import pytest

_SCRIPT = """
const read = text => { try { return {value: JSON.parse(text)} } catch (error) { return null } }
const print = (value, step) => Buffer.from(JSON.stringify(value, null, step)).toString('base64')
const documents = JSON.parse(require('fs').readFileSync(0, 'utf8'))
console.log(JSON.stringify(documents.map(text => {
  const found = read(text)
  return found && [print(found.value, 2), print(found.value, 0)]
})))
"""


def print_all(documents: Sequence[str]) -> list[tuple[bytes, bytes] | None]:
    """Of each text, JSON.stringify of its JSON.parse with indent 2 and without; None where V8 refuses it.

    Skips the test where node is not installed.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed, and V8 is what this test compares with")
    finished = subprocess.run(
        [node, "-e", _SCRIPT], input=json.dumps(documents).encode(), stdout=subprocess.PIPE, check=True, timeout=60
    )
    return [
        None if entry is None else (base64.b64decode(entry[0]), base64.b64decode(entry[1]))
        for entry in json.loads(finished.stdout)
    ]
