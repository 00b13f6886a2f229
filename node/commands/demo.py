"""`sbot demo`: three nodes on this machine meet, talk and pass on, in a folder that is gone afterwards.

They have a network key of their own and listen on loopback alone, so nothing of it can reach the real network, and the
data directory of the user is not touched.
"""

import asyncio
import base64
import contextlib
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.client import ApiProblem, Client
from node import arguments, config, log_setup
from node.commands.catalogue import Invocation
from node.errors import NodeError, UsageError
from node.output import Output, clean

if TYPE_CHECKING:
    from node.sbot import Sbot

NAMES = ("alice", "bob", "carol")
PATIENCE = 60.0
"""Seconds for what one has published to reach all."""
PAUSE = 0.05


def demo(invocation: Invocation) -> int:
    """Tell what happens, a line or a JSON value each; 0 once everybody has everything."""
    found = arguments.strict(invocation.argv, valued=("path", "config"), switches=("json",), command=invocation.spelled)
    if found.words:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}".rstrip())
    log_setup.set_up(form="text", level="error")
    output = Output.standard(as_json=found.on("json"))

    def tell(event: str, text: str, **more: Any) -> None:
        if output.pretty:
            output.line(clean(text))
        else:
            output.json_value({"event": event, "text": text, **more})

    os.umask(0o077)
    with tempfile.TemporaryDirectory(prefix="sbot-demo-") as folder:
        asyncio.run(_play(Path(folder), tell))
    return 0


class _Person:
    """One of the nodes, asked over HTTP as any program asks it."""

    def __init__(self, name: str, sbot: "Sbot") -> None:
        self.name = name
        self.id = sbot.id
        self.address = sbot.address
        self.http = sbot.http.url
        self.node = Client(sbot.http.url, sbot.directory.http_token())


async def _play(folder: Path, tell: Callable[..., None]) -> None:
    from node.sbot import Sbot  # takes half a second to load

    began = time.monotonic()
    network = base64.b64encode(os.urandom(32)).decode()
    async with AsyncExitStack() as stack:
        people: list[_Person] = []
        for name in NAMES:
            flags = {
                "path": str(folder / name),
                "host": "127.0.0.1",
                "port": "0",
                "http_port": "0",
                "lan": "false",
                "autoconnect": "false",
            }
            settings = config.load({**flags, "network_key": network}, {})
            person = _Person(name, await stack.enter_async_context(Sbot.open(settings)))
            stack.callback(person.node.close)
            people.append(person)
            tell("node", f"{name} is {person.id}, at {person.address}", name=name, id=person.id, http=person.http)
        try:
            await _talk(people, tell)
        except ApiProblem as problem:
            raise NodeError(f"The demo stopped: {problem.detail}") from None
    tell("done", f"Done in {time.monotonic() - began:.1f} s; nothing of it is left.", seconds=time.monotonic() - began)


async def _talk(people: list[_Person], tell: Callable[..., None]) -> None:
    alice, bob, carol = people
    for person in people:
        await asyncio.to_thread(person.node.about, name=person.name)
        for other in people:
            if other is not person:
                await asyncio.to_thread(person.node.follow, other.id)
    tell("follow", "Each says its name and follows the others.")
    await asyncio.to_thread(bob.node.connect, alice.address)
    await asyncio.to_thread(carol.node.connect, bob.address)
    tell("connect", "bob dials alice, and carol dials bob: alice and carol are not connected.")

    post = await asyncio.to_thread(alice.node.post, "Hello from alice! Who is **there**?")
    tell("post", "alice posts: Hello from alice! Who is **there**?", id=post["key"])
    await _until(lambda: _has(bob, post["key"]), "bob lacks the post of alice")
    reply = await asyncio.to_thread(bob.node.reply, post["key"], "I am, and so is carol.")
    tell("reply", "bob has it, and replies: I am, and so is carol.", id=reply["key"])
    await _until(lambda: _has(carol, reply["key"]), "carol lacks the reply of bob")
    vote = await asyncio.to_thread(carol.node.vote, post["key"])
    tell("like", "carol has both from bob, and likes the post of alice.", id=vote["key"])
    secret = await asyncio.to_thread(alice.node.post, "Only for carol.", recps=[carol.id])
    tell("private", "alice writes privately to carol.", id=secret["key"])
    for person in people:
        for message in (post, reply, vote, secret):
            await _until(lambda: _has(person, message["key"]), f"{person.name} lacks {message['key']}")  # noqa: B023

    thread = await asyncio.to_thread(carol.node.thread, post["key"])
    texts = [item["value"]["content"]["text"] for item in thread["items"]]
    tell("thread", f"The thread as carol has it: {' / '.join(texts)}", texts=texts)
    for person in (bob, carol):
        read = await asyncio.to_thread(person.node.message, secret["key"], private=True)
        content = read["value"]["content"]
        told = content["text"] if isinstance(content, dict) else "nothing but an encrypted text"
        tell("read", f"{person.name} reads of the private message: {told}", name=person.name, read=told)


async def _has(person: _Person, message: str) -> bool:
    with contextlib.suppress(ApiProblem):
        await asyncio.to_thread(person.node.message, message)
        return True
    return False


async def _until(true: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Ask again and again until something is so. Raises NodeError when it does not become so."""
    end = time.monotonic() + PATIENCE
    while not await true():
        if time.monotonic() > end:
            raise NodeError(f"The demo stopped: after {PATIENCE:.0f} s {otherwise}.")
        await asyncio.sleep(PAUSE)
