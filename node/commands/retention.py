"""`sbot retention`: erase what rules say need not be kept, in the running node or, if there is none, right here."""

import time
from typing import Any

from feeds.errors import FeedsError, InvalidRule
from feeds.retention_rules import Rule, parse_rules
from node import arguments, config
from node.commands.catalogue import Invocation
from node.commands.local import local
from node.display import size
from node.errors import NodeError, NotRunning, UsageError
from node.output import Output

SWITCH = "dry-run"


def retention(invocation: Invocation) -> int:
    """Say what goes by the given rules, or those of the settings; with --dry-run it stays."""
    found = arguments.strict(
        invocation.argv, valued=("path", "config"), switches=("json", SWITCH), command=invocation.spelled
    )
    settings = config.load({name: found.values.get(name) for name in ("path", "config")}, invocation.environ)
    dry_run = found.on(SWITCH)
    text = " ".join(found.words) or settings.retention
    try:
        rules = parse_rules(text)
    except InvalidRule as error:
        raise UsageError(f"The rules cannot be read: {error}.") from None
    if not rules:
        raise UsageError("There are no rules; give some, such as 'hops=3 age=1y', here or as the setting retention.")
    try:
        with local(invocation, switches=(SWITCH,)) as here:
            answer: Any = here.node.retention("; ".join(rule.text for rule in rules), dry_run=dry_run)
    except NotRunning:
        answer = _here(settings, rules, dry_run=dry_run)
    _show(Output.standard(as_json=found.on("json")), answer)
    return 0


def _here(settings: config.Config, rules: tuple[Rule, ...], *, dry_run: bool) -> dict[str, Any]:
    from node.offline_store import opened_store  # takes a moment to load

    try:
        with opened_store(settings) as (runner, store):
            runner.run(store.indexer.catch_up())
            work = store.retention.plan if dry_run else store.retention.apply
            outcome = runner.run(work(rules, now=int(time.time() * 1000)))
            runner.run(store.indexer.catch_up())
    except FeedsError as error:
        raise NodeError(f"The rules could not be carried out: {error}.") from None
    return {"dry_run": dry_run, **outcome._asdict(), "rules": [share._asdict() for share in outcome.rules]}


def _show(output: Output, answer: dict[str, Any]) -> None:
    if not output.pretty:
        output.json_value(answer)
        return
    rows = [
        (share["rule"], str(share["messages"]), str(share["feeds"]), size(share["bytes"])) for share in answer["rules"]
    ]
    output.table(("rule", "messages", "feeds", "bytes"), rows)
    word = "would be erased" if answer["dry_run"] else "erased"
    output.line(
        f"{answer['messages']} messages, {size(answer['bytes'])} {word}; {size(answer['kept_bytes'])} of messages stay."
    )
    if answer["messages"] and not answer["dry_run"]:
        output.line("sbot vacuum makes the file smaller; without it the room is used for what comes.")
