"""`sbot doctor`: what is wrong with the node, and what to do."""

import asyncio
from typing import Any

from api.client import ApiProblem, Client, NodeNotRunning
from node import arguments, config
from node.commands.catalogue import Invocation
from node.commands.local import told
from node.config import Config
from node.directory import DataDirectory
from node.errors import UsageError
from node.output import Output, clean

MEND_SECONDS = 300.0
STOPPED: dict[str, Any] = {
    "check": "node",
    "state": "failed",
    "detail": "No node is running, so clock, ports, peers, views and the feed were not looked at.",
    "advice": "sbot start, and then sbot doctor once more.",
    "fixable": False,
    "fixed": None,
}
MARKS = {"ok": "ok     ", "failed": "FAILED ", "skipped": "skipped"}


def doctor(invocation: Invocation) -> int:
    """Print each check, with --fix after mending what is safe to mend; exit code 1 if one of them failed."""
    found = arguments.strict(
        invocation.argv, valued=("path", "config"), switches=("json", "fix"), command=invocation.spelled
    )
    if found.words:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}")
    flags = {name: found.values.get(name) for name in ("path", "config")}
    settings = config.load(flags, invocation.environ)
    checks = _mended(settings) if found.on("fix") else _examined(settings)
    output = Output.standard(as_json=found.on("json"))
    for check in checks:
        if output.pretty:
            for line in _lines(check):
                output.line(clean(line))
        else:
            output.json_value(check)
    return 1 if any(check["state"] == "failed" for check in checks) else 0


def _examined(settings: Config) -> list[dict[str, Any]]:
    try:
        with Client.for_directory(settings.path) as node:
            checks: list[dict[str, Any]] = node.doctor()["checks"]
            return checks
    except NodeNotRunning:
        from node.doctor import examine, offline  # with the store behind it, which few commands need

        return [*asyncio.run(examine(offline(DataDirectory(settings.path), settings.config))), STOPPED]
    except ApiProblem as problem:
        raise told(problem, settings.path) from None


def _mended(settings: Config) -> list[dict[str, Any]]:
    try:
        with Client.for_directory(settings.path, timeout=MEND_SECONDS) as node:
            checks: list[dict[str, Any]] = node.mend()["checks"]
            return checks
    except NodeNotRunning:
        from node.doctor import mend, offline

        return [*asyncio.run(mend(offline(DataDirectory(settings.path), settings.config))), STOPPED]
    except ApiProblem as problem:
        raise told(problem, settings.path) from None


def _lines(check: dict[str, Any]) -> list[str]:
    lines = [f"{MARKS[check['state']]}  {check['check']}: {check['detail']}"]
    if check["fixed"]:
        lines.insert(0, f"FIXED    {check['check']}: {check['fixed']}.")
    elif check["fixable"]:
        lines.append("         sbot doctor --fix mends this.")
    if check["advice"]:
        lines.append(f"         {check['advice']}")
    return lines
