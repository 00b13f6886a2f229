"""The data directory: what lies where, and how it is made (interfaces.md, "Data directory").

Nothing in it is readable by other users, because the log holds private messages as well as keys.
"""

import logging
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from node.config import template
from node.errors import NodeError
from node.private_files import write_once

log = logging.getLogger("node.directory")


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """Where everything of one node lies."""

    root: Path

    @property
    def secret(self) -> Path:
        return self.root / "secret"

    @property
    def database(self) -> Path:
        return self.root / "sbot.db"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def token(self) -> Path:
        return self.root / "http-token"

    @property
    def socket(self) -> Path:
        return self.root / "socket"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def ready(self) -> Path:
        return self.root / "ready.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    def make(self) -> None:
        """Make the directory, private to this user. Raises NodeError if it cannot be made or used."""
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.root.mkdir(mode=0o700)
            except FileExistsError:
                self._adopt()
        except OSError as error:
            raise NodeError(
                f"The data directory {self.root} cannot be used: {error.strerror}; choose another one with --path."
            ) from None

    def _adopt(self) -> None:
        """Use a directory somebody made: an empty one becomes private, one with content is only warned about."""
        status = self.root.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(0, "it is not a directory")
        if not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(0, "it may not be written to")
        if stat.S_IMODE(status.st_mode) & 0o077 == 0:
            return
        if status.st_uid == os.getuid() and not any(self.root.iterdir()):
            self.root.chmod(0o700)
        else:
            log.warning("other users can look into %s; chmod 0700 closes it", self.root)

    def write_settings(self, file: Path) -> None:
        """Write the commented settings file, if there is none yet."""
        write_once(file, template().encode())

    def http_token(self) -> str:
        """The bearer token of the HTTP API; made at the first start."""
        for _ in range(2):
            try:
                token = self.token.read_text(encoding="ascii").strip()
            except FileNotFoundError:
                write_once(self.token, secrets.token_urlsafe(32).encode() + b"\n")
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise NodeError(f"The token file {self.token} cannot be read: {error}.") from None
            if len(token) < 16:
                raise NodeError(f"The token file {self.token} holds no token; remove it and start again.")
            return token
        raise NodeError(f"The token file {self.token} cannot be made.")

    def write_manifest(self, text: bytes) -> None:
        """Replace manifest.json, whole or not at all."""
        _replace(self.manifest, text)

    def write_ready(self, text: bytes) -> None:
        """Tell programs on this machine where the node answers, until `clear_ready`."""
        _replace(self.ready, text)

    def clear_ready(self) -> None:
        """The node answers no longer."""
        self.ready.unlink(missing_ok=True)


def _replace(path: Path, text: bytes) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(text)
    draft.replace(path)
