"""Installs the pinned npm packages of `peers/package.json` and `peers/room/package.json` beside them, once.

The room server has a folder of its own, for it needs other versions of what the peers are made of. A stamp in each
`node_modules` holds the hash of the package.json that was installed, so a second run needs no
network, and a changed pin installs again. Install scripts are not run: the two native packages carry prebuilt
binaries, and nothing else needs one.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
ROOM = PEERS / "room"
INSTALL_SECONDS = 600
REQUIRED = "interop" in os.environ.get("PYSBOT_REQUIRE", "").replace(",", " ").split()


class PackagesMissing(Exception):
    """The JavaScript peers cannot be had here; the text says why."""


def install() -> None:
    """Makes sure the packages are there; raises PackagesMissing with the reason if they cannot be."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise PackagesMissing(f"{program} is not installed")
    for folder in (PEERS, ROOM):
        _install(folder)


def _install(folder: Path) -> None:
    with (folder / "package.json").open("rb") as pinned:
        fcntl.flock(pinned, fcntl.LOCK_EX)  # two test sessions install one after the other
        wanted = hashlib.sha256(pinned.read()).hexdigest()
        stamp = folder / "node_modules" / ".installed"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        _npm_install(folder)
        stamp.write_text(wanted)


def _npm_install(folder: Path) -> None:
    command = ["npm", "install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--prefer-offline"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as slow:
        raise PackagesMissing(f"npm install did not end within {INSTALL_SECONDS} s") from slow
    if done.returncode != 0:
        raise PackagesMissing(f"npm install failed: {done.stderr.strip()[-500:]}")
