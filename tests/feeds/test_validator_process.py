"""The child that judges starts quickly: it imports neither an event loop nor a database."""

import subprocess
import sys

from node.store import views
from tests.support.processes import clean_environ

COSTLY = ("asyncio", "aiosqlite", "feeds.database", "pycparser", "subprocess", "uvloop")
PROGRAM = """
import sys
from feeds.validator_process import main
main()
print(*(name for name in {costly!r} if name in sys.modules), file=sys.stderr)
"""


def test_it_imports_only_what_judging_needs() -> None:
    extractors = [f"{view.extract.__module__}:{view.extract.__qualname__}" for view in views()]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(costly=COSTLY), *extractors],
        input=b"",
        capture_output=True,
        timeout=30,
        env=clean_environ(),
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"\n")
