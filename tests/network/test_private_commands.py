"""`sbot private.publish`, `private.read`, `private.unbox` and `get --private` against a running node."""

import json
import os
from pathlib import Path

from feeds.private.key_ring import KeyRing
from feeds.private.sealing import seal
from tests.support import builders
from tests.support.processes import NodeProcess

FRIEND, OTHER = builders.keypair("friend"), builders.keypair("other")


def test_private_messages_on_the_command_line(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "node") as node:
        message = node.ok("private.publish", FRIEND.id, "--type", "post", "--text", "2024")
        content = message["value"]["content"]
        opened = KeyRing([FRIEND]).open(content)
        assert opened is not None
        assert opened.content == {"type": "post", "text": "2024", "recps": [FRIEND.id, node.id]}

        given = json.dumps({"type": "post", "text": "from input"}).encode()
        second = node.ok("private", "publish", FRIEND.id, OTHER.id, ".", stdin=given)
        assert second["value"]["content"].endswith(".box")

        read = node.sbot("private.read", "--reverse").values
        assert [item["value"]["content"]["text"] for item in read] == ["from input", "2024"]
        assert all(item["meta"] == {"private": True} for item in read)
        assert len(node.sbot("private.read", "--limit", "1").values) == 1

        assert node.ok("private.unbox", content) == opened.content
        assert node.ok("private.unbox", message["key"])["value"]["content"] == opened.content
        assert node.ok("get", message["key"])["content"] == content
        assert node.ok("get", message["key"], "--private")["content"] == opened.content

        for_others = seal({"type": "post", "text": "x"}, [OTHER.id], me=FRIEND.id, random=os.urandom)
        theirs = node.ok("publish", ".", stdin=json.dumps(for_others).encode())
        for words in (("private.unbox", for_others), ("private.unbox", theirs["key"])):
            done = node.sbot(*words)
            assert done.code == 4
            assert "encrypted for this node" in done.err
        key = KeyRing([OTHER]).open(for_others)
        assert key is not None
        link = f"{theirs['key']}?unbox={key.unbox}"
        assert node.ok("get", link)["content"]["text"] == "x"
        assert node.ok("private.unbox", link)["value"]["content"]["text"] == "x"

        as_json = '{"type":"post","text":"a word"}'
        for words in ((as_json, FRIEND.id), (FRIEND.id, as_json)):
            given_as_word = node.ok("private.publish", *words)
            opened = KeyRing([FRIEND]).open(given_as_word["value"]["content"])
            assert opened is not None
            assert opened.content == {"type": "post", "text": "a word", "recps": [FRIEND.id, node.id]}
        assert node.ok("publish", as_json)["value"]["content"] == {"type": "post", "text": "a word"}
        for broken in ("{", "{}x", '{"text":"no type"}'):
            assert node.sbot("publish", broken).code in (1, 2), broken
        blob = node.sbot("blobs.add", stdin=b"hello").out.decode().strip()  # with the quotes that JSON has
        assert node.sbot("blobs.get", blob).out == b"hello"
        assert node.ok("blobs.has", blob) is True

        for line in (
            ("private.publish", "--type", "post"),
            ("private.publish", FRIEND.id),
            ("private.publish", ".", FRIEND.id),
            ("private.publish", FRIEND.id, "--text", "no type"),
            ("private.read", "word"),
            ("private.unbox",),
        ):
            assert node.sbot(*line).code == 2, line
        refused = node.sbot("private.publish", "@nobody", "--type", "post", "--text", "psst")
        assert refused.code == 1
        assert "feed id" in refused.err
        assert "psst" not in refused.err
        assert node.clock() == {node.id: 6}
