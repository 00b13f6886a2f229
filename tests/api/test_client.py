"""The Python client against a running node, over a real socket: every method, and what goes wrong."""

import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from api import models
from api.client import ApiProblem, Client, NodeNotRunning, shapes
from api.client.directory import READY
from feeds.canonical_json import compact
from node.directory import DataDirectory
from tests.support.builders import keypair
from tests.support.processes import NodeProcess

ANN = keypair("ann").id
NOWHERE = "%" + "A" * 43 + "=.sha256"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("client") / "a") as node:
        yield node


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("client") / "b") as node:
        yield node


@pytest.fixture
def client(running: NodeProcess) -> Iterator[Client]:
    with Client.for_directory(running.directory) as client:
        yield client


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(ApiProblem) as caught:
        yield
    assert caught.value.code == code, caught.value


def test_the_node_says_what_it_is(client: Client, running: NodeProcess) -> None:
    assert client.info()["id"] == client.whoami()["id"] == client.status()["id"] == running.id
    assert client.replication()["state"] == "offline"


def test_publishing_and_reading_back(client: Client) -> None:
    content: Any = {"type": "test-note", "text": "\ud800 is half a pair", "n": 1e21, "tiny": -0.0, "2": 1, "1": 2}
    before = client.whoami()["sequence"]
    plan = client.dry_run(content)
    assert (plan["sequence"], client.whoami()["sequence"]) == (before + 1, before)
    message = client.publish(content, idempotency_key="a key", if_sequence=before)
    assert client.publish(content, idempotency_key="a key")["key"] == message["key"]
    assert client.message(message["key"]) == message
    assert compact(message["value"]["content"]) == compact(content)
    assert client.whoami()["sequence"] == before + 1
    with refused("sequence-mismatch"):
        client.publish(content, if_sequence=before)
    with refused("message-not-found"):
        client.message(NOWHERE)


def test_lists_go_on_over_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.client.client.PAGE", 3)
    keys = [client.publish({"type": "test-page", "n": n})["key"] for n in range(8)]
    assert [found["key"] for found in client.messages(type="test-page")] == keys
    assert [found["key"] for found in client.messages(type="test-page", order="desc", limit=4)] == keys[:3:-1]
    assert [found["key"] for found in client.messages(type="test-page", limit=0)] == []
    me = client.whoami()
    assert [one["id"] for one in client.feeds()] == [me["id"]]
    assert client.feed(me["id"])["sequence"] == me["sequence"]
    assert [found["key"] for found in client.feed_messages(me["uri"], after=me["sequence"] - 8)] == keys


def test_conversations(client: Client) -> None:
    first = client.post("A question about #walls", channel="Build", content_warning="bricks", mentions=[ANN])
    assert first["value"]["content"]["contentWarning"] == "bricks"
    answer = client.reply(first["key"], "An answer")
    assert answer["value"]["content"]["root"] == first["key"]
    client.vote(first["key"], expression="Yes")
    assert [(vote["value"], vote["expression"]) for vote in client.votes(first["key"])] == [(1, "Yes")]
    client.vote(first["key"], 0)
    assert list(client.votes(first["key"])) == []
    thread = client.thread(first["key"])
    assert [item["key"] for item in thread["items"]] == [first["key"], answer["key"]]
    assert next(client.threads())["id"] == first["key"]
    for timeline in (client.home(), client.public(), client.public(replies=False), client.channel("#BUILD")):
        assert first["key"] in [found["key"] for found in timeline]
    assert [found["key"] for found in client.home(limit=1)] == [answer["key"]]
    assert answer["key"] not in [found["key"] for found in client.home(replies=False)]
    assert [found["key"] for found in client.messages(mentions=ANN)] == [first["key"]]
    assert list(client.mentions()) == []
    assert {"build", "walls"} <= {channel["name"] for channel in client.channels()}
    assert next(client.search("question walls"))["key"] == first["key"]


def test_private_messages(client: Client) -> None:
    me = client.whoami()["id"]
    secret = client.post("between us", recps=[me, ANN])
    assert isinstance(secret["value"]["content"], str)
    assert client.message(secret["key"], private=True)["value"]["content"]["text"] == "between us"
    answer = client.reply(secret["key"], "indeed")
    assert isinstance(answer["value"]["content"], str)
    assert [found["key"] for found in client.messages(private=True, q="indeed")] == [answer["key"]]
    (thread,) = client.private_threads()
    assert (thread["id"], thread["messages"], set(thread["recps"])) == (secret["key"], 2, {me, ANN})
    assert [found["value"]["content"]["text"] for found in client.private_thread(secret["key"])] == [
        "between us",
        "indeed",
    ]
    box = client.publish({"type": "post", "text": "boxed"}, recps=[ANN])
    assert isinstance(box["value"]["content"], str)
    assert [found["key"] for found in client.search("boxed", private=True)] == [box["key"]]
    assert list(client.search("boxed")) == []


def test_people(client: Client) -> None:
    me = client.whoami()["id"]
    client.about(name="Myself", description="It is me")
    client.about(ANN, name="Ännchen")
    assert client.profile(me)["description"] == "It is me"
    assert {id: name["name"] for id, name in client.names([me, ANN, me]).items()} == {me: "Myself", ANN: "Ännchen"}
    assert client.names([]) == {}
    assert [found["id"] for found in client.feeds_named("ann")] == [ANN]
    follow = client.follow(ANN)
    assert follow is not None
    assert follow["value"]["content"]["following"] is True
    assert client.follow(ANN) is None
    assert (list(client.follows(me)), list(client.followers(ANN))) == ([ANN], [me])
    assert client.unfollow(ANN) is not None
    assert client.unfollow(ANN) is None
    assert client.block(ANN) is not None
    assert list(client.blocks(me)) == [ANN]
    assert client.unblock(ANN) is not None
    assert client.contact(ANN, following=True)["value"]["content"]["contact"] == ANN
    assert client.profile(ANN)["following"] is True
    client.contact(ANN, following=False, blocking=False)
    with refused("invalid-id"):
        client.profile("nobody")


def test_resolving_and_rendering(client: Client) -> None:
    found = client.resolve(f"see {ANN}")
    assert (found["kind"], found["id"], found["held"]) == ("feed", ANN, False)
    assert client.render("**x**") == "<p><strong>x</strong></p>\n"


def test_muxrpc_methods(client: Client) -> None:
    assert client.rpc("whoami") == {"id": client.whoami()["id"]}
    key = client.publish({"type": "test-rpc"})["key"]
    assert client.rpc("get", key)["content"] == {"type": "test-rpc"}
    assert [item["key"] for item in client.rpc_stream("messagesByType", "test-rpc")] == [key]
    live = client.rpc_stream("createLogStream", {"live": True})
    assert next(live)["value"]["sequence"] == 1
    live.close()  # type: ignore[attr-defined]
    with refused("method-not-found"):
        client.rpc("no.such")
    with refused("method-not-found"):
        next(client.rpc_stream("no.such"))


def test_muting_and_deleting(client: Client) -> None:
    client.mute(ANN)
    assert [muted["id"] for muted in client.mutes()] == [ANN]
    client.unmute(ANN)
    assert list(client.mutes()) == []
    key = client.publish({"type": "test-gone"})["key"]
    assert client.delete_message(key)["note"]
    assert list(client.messages(type="test-gone")) == []
    with refused("message-deleted"):
        client.message(key)


def test_tokens_and_webhooks(client: Client, running: NodeProcess) -> None:
    made = client.create_token("a reader", ["read"], expires_in=3600)
    with Client(running.http, made["token"]) as reader:
        assert reader.whoami()["id"] == running.id
        with refused("insufficient-scope"):
            reader.post("no")
    assert [token["id"] for token in client.tokens()] == [made["id"]]
    client.revoke_token(made["id"])
    hook = client.create_webhook("http://127.0.0.1:9/", {"types": ["test-hook"]})
    assert client.webhook(hook["id"])["url"] == "http://127.0.0.1:9/"
    assert client.resume_webhook(hook["id"])["state"] == "active"
    assert [one["id"] for one in client.webhooks()] == [hook["id"]]
    client.delete_webhook(hook["id"])
    assert list(client.webhooks()) == []


def test_blobs_go_in_and_out_in_pieces(client: Client) -> None:
    data = bytes(range(256)) * 3000
    added = client.add_blob(data)
    assert (added["size"], client.has_blob(added["id"])) == (len(data), True)
    assert client.add_blob(data[at : at + 1000] for at in range(0, len(data), 1000))["id"] == added["id"]
    assert client.add_blob(io.BytesIO(data))["id"] == added["id"]
    pieces = list(client.get_blob(added["id"]))
    assert b"".join(pieces) == data
    assert len(pieces) > 1
    lacking = "&" + "B" * 42 + "A=.sha256"
    assert not client.has_blob(lacking)
    with refused("blob-missing"):
        list(client.get_blob(lacking))
    with refused("blob-too-large"):
        client.add_blob(b"x" * 65536 for _ in range(200))
    assert client.whoami()["state"] == "open"  # and the client goes on


def test_peers(client: Client, other: NodeProcess) -> None:
    connected = client.connect(other.address)
    assert connected["id"] == other.id
    assert [(peer["id"], peer["state"]) for peer in client.peers()] == [(other.id, "connected")]
    assert client.feed_replication(other.id)["feed"] == other.id
    client.disconnect(other.id)
    with refused("peer-not-found"):
        client.disconnect(other.id)
    with refused("invalid-address"):
        client.connect("nonsense")


def test_live_events_begin_with_the_call(client: Client) -> None:
    me = client.whoami()["id"]
    events = client.stream(types=["test-live"], feeds=[me])
    keys = [client.publish({"type": "test-live", "n": n})["key"] for n in range(3)]
    first, second = itertools.islice(events, 2)
    assert [first.kind, first.data["key"], second.data["key"]] == ["message", *keys[:2]]
    again = client.stream(types=["test-live"], since=second.position, resume=False)
    assert next(again).data["key"] == keys[2]


def test_a_broken_event_stream_goes_on_where_it_ended(client: Client, running: NodeProcess) -> None:
    with cutting(running, cut_after=2) as url, Client(url, running.token) as through:
        events = through.stream(types=["test-cut"])
        keys = [client.publish({"type": "test-cut", "n": n})["key"] for n in range(5)]
        assert [event.data["key"] for event in itertools.islice(events, 5)] == keys


@contextmanager
def cutting(node: NodeProcess, cut_after: int) -> Iterator[str]:
    """A server in front of a node that cuts the first event stream after some events."""
    _, _, port = node.http.rpartition(":")
    cuts = [cut_after]

    def carry(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", int(port))) as server:
            asked = client.recv(65536)
            stream = asked.startswith(b"GET /v1/stream")
            server.sendall(asked)
            server.settimeout(None if stream else 0.2)
            seen = b""
            with suppress(TimeoutError):
                while piece := server.recv(256):
                    seen += piece
                    client.sendall(piece)
                    if stream and cuts and seen.count(b"\n\n") > cuts[0]:
                        cuts.pop()
                        return

    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                taken, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=carry, args=(taken,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_refusals_keep_their_code_status_and_members(client: Client, running: NodeProcess) -> None:
    with pytest.raises(ApiProblem) as caught:
        client.post("x" * 8192)
    problem = caught.value
    assert (problem.code, problem.status, problem.members["limit"]) == ("message-too-large", 413, 8192)
    assert str(problem) == problem.detail
    assert problem.detail
    with Client(running.http, "wrong") as stranger, refused("unauthorized"):
        stranger.whoami()


def test_a_connection_that_went_cold_is_opened_anew(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.whoami()
    kept = client._connection._kept
    assert kept is not None
    assert kept.sock is not None
    client.whoami()
    assert client._connection._kept is kept
    kept.sock.shutdown(socket.SHUT_RDWR)
    assert client.publish({"type": "test-cold"})["value"]["content"]["type"] == "test-cold"
    assert client._connection._kept is not kept
    cold = client._connection._kept
    monkeypatch.setattr("api.client.connection.IDLE", -1.0)
    client.whoami()
    assert client._connection._kept is not cold


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that is no node."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            taken, _ = listener.accept()
            with taken:
                taken.recv(65536)
                taken.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        thread.join(5)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "connection-lost"),
        (b"220 mail.example ESMTP\r\n", "connection-lost"),
        (OK % (500, b"{"), "connection-lost"),
        (OK % (6, b"<html>"), "unexpected-answer"),
        (OK % (20_000, b"[" * 20_000), "unexpected-answer"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}", "unexpected-answer"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
            "unexpected-answer",
        ),
    ],
)
def test_what_is_no_node_is_told_apart(answer: bytes, code: str) -> None:
    with answering(answer) as url, Client(url, "token", timeout=5) as client, refused(code):
        client.whoami()


def test_an_answer_that_does_not_come_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, "token", timeout=0.1) as client, refused("connection-lost"):
            client.whoami()
    with Client(url, "token") as client, pytest.raises(NodeNotRunning):
        client.whoami()
    with pytest.raises(ValueError, match="no http"):
        Client("https://example.org", "token")


def test_a_directory_without_a_running_node(tmp_path: Path, running: NodeProcess) -> None:
    ready = json.loads((running.directory / READY).read_text())
    assert ready == running.ready
    assert DataDirectory(tmp_path).ready.name == READY
    for text in (None, "", "[]", "[" * 9000, '{"http": 1, "pid": 1}', "\xff"):
        if text is not None:
            (tmp_path / READY).write_text(text, encoding="latin-1")
        with pytest.raises(NodeNotRunning):
            Client.for_directory(tmp_path)
    # Left over after a crash: its port is somebody else's by now, who must not be sent the token.
    (tmp_path / "http-token").write_text("token")
    for pid, holder in ((ready["pid"], ""), (ready["pid"], "1"), (2**22 + 1, str(2**22 + 1)), (2**70, str(2**70))):
        (tmp_path / READY).write_text(json.dumps({**ready, "pid": pid}))
        (tmp_path / "lock").write_text(holder)
        with pytest.raises(NodeNotRunning):
            Client.for_directory(tmp_path)
    (tmp_path / "lock").write_text(f"{ready['pid']}\n")
    (tmp_path / READY).write_text(json.dumps(ready))
    with Client.for_directory(tmp_path) as found:
        assert found.info()["id"] == running.id


def test_the_ready_file_goes_with_the_node(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "c") as node:
        file = node.directory / READY
        assert file.exists()
        assert file.stat().st_mode & 0o777 == 0o600
        node.terminate()
        assert not file.exists()
        node.start()
        node.kill()
        assert file.exists()
        started = time.monotonic()
        with pytest.raises(NodeNotRunning):
            Client.for_directory(node.directory)
        assert time.monotonic() - started < 1


@pytest.mark.parametrize("name", [name for name in shapes.__all__ if name not in ("Page",)])
def test_the_shapes_are_those_of_the_models(name: str) -> None:
    model = getattr(models, name)
    members = {field.alias or own for own, field in model.model_fields.items()}
    assert set(get_type_hints(getattr(shapes, name))) == members
