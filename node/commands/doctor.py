"""`sbot doctor`: what is wrong with the node, and what to do."""

import asyncio
from typing import Any

from api.client import ApiProblem, Client, NodeNotRunning
from node import arguments, config
from node.commands.catalogue import Invocation
from node.commands.local import told
from node.directory import DataDirectory
from node.errors import UsageError
from node.output import Output, clean

STOPPED = {
    "check": "node",
    "state": "failed",
    "detail": "No node is running, so clock, ports, peers, views and the feed were not looked at.",
    "advice": "sbot start, and then sbot doctor once more.",
}
MARKS = {"ok": "ok     ", "failed": "FAILED ", "skipped": "skipped"}


def doctor(invocation: Invocation) -> int:
    """Print each check; exit code 1 if one of them failed."""
    found = arguments.strict(invocation.argv, valued=("path", "config"), switches=("json",), command=invocation.spelled)
    if found.words:
        raise UsageError(f"usage: sbot {invocation.spelled}")
    flags = {name: found.values.get(name) for name in ("path", "config")}
    path = config.load(flags, invocation.environ).path
    output = Output.standard(as_json=found.on("json"))
    try:
        with Client.for_directory(path) as node:
            checks: list[dict[str, Any]] = node.doctor()["checks"]
    except NodeNotRunning:
        from node.doctor import examine, offline  # with the store behind it, which few commands need

        checks = [*asyncio.run(examine(offline(DataDirectory(path)))), STOPPED]
    except ApiProblem as problem:
        raise told(problem, path) from None
    for check in checks:
        if not output.pretty:
            output.json_value(check)
            continue
        output.line(clean(f"{MARKS[check['state']]}  {check['check']}: {check['detail']}"))
        if check["advice"]:
            output.line(clean(f"         {check['advice']}"))
    return 1 if any(check["state"] == "failed" for check in checks) else 0
