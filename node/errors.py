"""What can go wrong before, around and after a running node, in words for the person at the keyboard.

    NodeError                 exit code 1: it was tried and failed
    ├── UsageError            2: the command line, the environment or config.toml says something impossible
    ├── NotRunning            3: the command needs a running node and there is none
    ├── NothingFound          4: what was asked for is not here
    ├── KeyFileError          1: the key file is unreadable, damaged or contradicts itself
    ├── DirectoryLocked       1: another process holds the data directory
    └── PortTaken             1: an address to listen on is in use

The text of each is one or two sentences: the reason, and what to do next. `node.cli` prints it to standard error.
"""


class NodeError(Exception):
    """Something failed; `exit_code` is what the process ends with (interfaces.md, "Command line")."""

    exit_code = 1


class UsageError(NodeError):
    """The user asked for something that cannot be; nothing was touched."""

    exit_code = 2


class NotRunning(NodeError):
    """No node answers for this data directory."""

    exit_code = 3


class NothingFound(NodeError):
    """The node answered that it does not have it."""

    exit_code = 4


class KeyFileError(NodeError):
    """The key file cannot be used. It is never overwritten and never replaced by a new identity."""


class DirectoryLocked(NodeError):
    """Another process holds the lock of this data directory; `pid` is what the lock file says, if anything."""

    def __init__(self, directory: str, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"The data directory {directory} is in use by {holder}; "
            "stop it first, or choose another directory with --path."
        )


class PortTaken(NodeError):
    """The address to listen on cannot be had."""

    def __init__(self, *, host: str, port: int, flag: str, reason: str) -> None:
        self.port = port
        super().__init__(
            f"Cannot listen on {host} port {port}: {reason}. Stop the program that uses it, "
            f"or choose another port with {flag} ({flag} 0 picks a free one)."
        )
