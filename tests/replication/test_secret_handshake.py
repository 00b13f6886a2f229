"""The secret handshake: every vector, every flipped bit, every cut; nothing said out of turn, nobody let in wrongly."""

import hashlib
import hmac
from typing import Any

import nacl.bindings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.keys import Keypair, to_x25519_public
from replication.errors import HandshakeFailed
from replication.secret_handshake import MAIN_NETWORK, ClientHandshake, ServerHandshake, Step
from tests.support import vectors
from tests.support.wires import ALICE, BOB, MALLORY, client_machine, cuts, pieces, server_machine

ENTRIES = vectors.entries("secret-handshake.json")

# The points of small order on Curve25519, as ECDH peers send them (RFC 7748 section 7, and the twist).
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]
# Ed25519 public keys of small order: identities for which signatures can be made up.
WEAK_IDENTITIES = [
    b"\x01" + bytes(31),
    bytes(32),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
]


def hexed(entry: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(entry[name])


def machines(entry: dict[str, Any]) -> tuple[ClientHandshake, ServerHandshake]:
    client = ClientHandshake(
        Keypair.generate(hexed(entry, "client_longterm_seed")),
        hexed(entry, "server_pk_known_to_client"),
        hexed(entry, "client_ephemeral_sk"),
        hexed(entry, "client_app_key"),
    )
    server_keys = Keypair.generate(hexed(entry, "server_sk")[:32])
    return client, ServerHandshake(server_keys, hexed(entry, "server_ephemeral_sk"), hexed(entry, "app_key"))


def transcript() -> list[bytes]:
    """The four messages of an honest handshake between Alice and Bob."""
    alice, bob = client_machine(), server_machine()
    first = alice.hello
    second = bob.receive(first)
    third = alice.receive(second)
    return [first, second, third, bob.receive(third)]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["scenario"])
def test_vector(entry: dict[str, Any]) -> None:
    client, server = machines(entry)
    if not entry["scenario"].startswith("msg1"):
        assert client.hello == hexed(entry, "msg1")
    fails = entry["fails_at"]
    steps = [(server, "msg1", "msg2"), (client, "msg2", "msg3"), (server, "msg3", "msg4"), (client, "msg4", None)]
    for machine, received, sent in steps:
        side = "server" if machine is server else "client"
        if fails == f"{side} rejects {received}":
            with pytest.raises(HandshakeFailed):
                machine.receive(hexed(entry, received))
            return
        reply = machine.receive(hexed(entry, received))
        damaged = sent is not None and entry["scenario"].startswith(sent)
        assert damaged or reply == (hexed(entry, sent) if sent else b"")
    assert fails is None
    assert client.keys is not None
    assert server.keys is not None
    assert client.keys.send_key == server.keys.receive_key == hexed(entry, "client_encrypt_key")
    assert client.keys.receive_key == server.keys.send_key == hexed(entry, "client_decrypt_key")
    assert client.keys.send_nonce == server.keys.receive_nonce == hexed(entry, "client_encrypt_nonce")
    assert client.keys.receive_nonce == server.keys.send_nonce == hexed(entry, "client_decrypt_nonce")
    assert client.keys.remote_public == hexed(entry, "server_pk")
    assert server.keys.remote_public == hexed(entry, "client_pk")


def test_the_vectors_hold_successes_and_failures_of_each_message() -> None:
    assert {entry["fails_at"] for entry in ENTRIES} == {
        None,
        "server rejects msg1",
        "client rejects msg2",
        "server rejects msg3",
        "client rejects msg4",
    }


@pytest.mark.parametrize("bit", range(512))
def test_server_says_nothing_to_a_hello_with_a_flipped_bit(bit: int) -> None:
    hello = bytearray(client_machine().hello)
    hello[bit // 8] ^= 1 << (bit % 8)
    bob = server_machine()
    with pytest.raises(HandshakeFailed) as caught:
        bob.receive(bytes(hello))
    assert caught.value.step == Step.HELLO


def test_server_lets_nobody_in_with_a_flipped_bit_in_the_authentication() -> None:
    first, _, third, _ = transcript()
    for bit in range(len(third) * 8):
        damaged = bytearray(third)
        damaged[bit // 8] ^= 1 << (bit % 8)
        bob = server_machine()
        bob.receive(first)
        with pytest.raises(HandshakeFailed) as caught:
            bob.receive(bytes(damaged))
        assert caught.value.step == Step.CLIENT_AUTHENTICATE
        assert bob.keys is None


def test_client_shows_nothing_to_a_damaged_hello_and_trusts_no_damaged_accept() -> None:
    _, second, _, fourth = transcript()
    for bit in range(len(second) * 8):
        damaged = bytearray(second)
        damaged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(HandshakeFailed):
            client_machine().receive(bytes(damaged))
    for bit in range(0, len(fourth) * 8, 5):
        damaged = bytearray(fourth)
        damaged[bit // 8] ^= 1 << (bit % 8)
        alice = client_machine()
        alice.receive(second)
        with pytest.raises(HandshakeFailed):
            alice.receive(bytes(damaged))
        assert alice.keys is None


@given(st.data())
def test_any_chunking_gives_the_same_handshake(data: st.DataObject) -> None:
    alice, bob = client_machine(), server_machine()
    expected = transcript()
    to_bob, to_alice = alice.hello, b""
    sent: list[bytes] = [to_bob]
    while alice.keys is None or bob.keys is None:
        to_alice = b"".join(bob.receive(piece) for piece in pieces(to_bob, data.draw(cuts(len(to_bob)))))
        to_bob = b"".join(alice.receive(piece) for piece in pieces(to_alice, data.draw(cuts(len(to_alice)))))
        sent += [to_alice, to_bob]
    assert [message for message in sent if message] == expected


def test_a_byte_at_a_time_is_served() -> None:
    first, second, third, fourth = transcript()
    bob = server_machine()
    assert b"".join(bob.receive(bytes([byte])) for byte in first) == second
    assert b"".join(bob.receive(bytes([byte])) for byte in third) == fourth


def test_what_follows_belongs_to_the_box_stream() -> None:
    first, second, third, fourth = transcript()
    bob = server_machine()
    bob.receive(first)
    assert bob.receive(third + b"early") == fourth
    assert bob.leftover == b"early"
    bob.receive(b" data")
    assert bob.leftover == b"early data"
    alice = client_machine()
    alice.receive(second)
    assert alice.leftover == b""
    alice.receive(fourth + b"greeting")
    assert alice.leftover == b"greeting"


@pytest.mark.parametrize("message", range(4))
def test_cut_anywhere_nobody_is_let_in(message: int) -> None:
    whole = transcript()
    for length in range(len(whole[message])):
        machine: ClientHandshake | ServerHandshake = server_machine() if message in (0, 2) else client_machine()
        if message >= 2:
            machine.receive(whole[message - 2])
        assert machine.receive(whole[message][:length]) == b""
        error = machine.end_of_input()
        assert error.reason
        assert machine.keys is None
        with pytest.raises(HandshakeFailed):
            machine.receive(whole[message][length:])


def test_a_replayed_authentication_is_worth_nothing_to_another_session() -> None:
    first, _, third, _ = transcript()
    bob = ServerHandshake(BOB, b"\x33" * 32)  # the same server, the next connection
    bob.receive(first)
    with pytest.raises(HandshakeFailed):
        bob.receive(third)


def test_own_messages_sent_back_are_refused() -> None:
    alice = client_machine()
    with pytest.raises(HandshakeFailed, match="back"):
        alice.receive(alice.hello)
    first, second, third, _ = transcript()
    alice = client_machine()
    alice.receive(second)
    with pytest.raises(HandshakeFailed):
        alice.receive(third)
    bob = server_machine()
    bob.receive(first)
    with pytest.raises(HandshakeFailed):
        bob.receive(second + second)


@pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: point.hex()[:8])
def test_hellos_with_points_of_small_order_are_refused(point: bytes) -> None:
    hello = hmac.digest(MAIN_NETWORK, point, "sha512")[:32] + point
    with pytest.raises(HandshakeFailed, match="weak"):
        server_machine().receive(hello)
    with pytest.raises(HandshakeFailed, match="weak"):
        client_machine().receive(hello)


@pytest.mark.parametrize("identity", WEAK_IDENTITIES, ids=lambda identity: identity.hex()[:8])
def test_weak_identities_are_refused(identity: bytes) -> None:
    """A caller with a key of small order, who can box like anybody, gets nowhere; nor does such a server."""
    alice, bob = client_machine(), server_machine()
    alice.receive(bob.receive(alice.hello))
    box_key = _first_box_key()
    signature = bytes([1] + [0] * 63)
    forged = nacl.bindings.crypto_secretbox(signature + identity, bytes(24), box_key)
    with pytest.raises(HandshakeFailed):
        bob.receive(forged)
    dialling = ClientHandshake(ALICE, identity, b"\x11" * 32)
    with pytest.raises(HandshakeFailed, match="not usable"):
        dialling.receive(transcript()[1])


def _first_box_key() -> bytes:
    """K3 of the handshake between Alice and Bob, which any caller of Bob's can compute."""
    server_ephemeral = nacl.bindings.crypto_scalarmult_base(b"\x22" * 32)
    s1 = nacl.bindings.crypto_scalarmult(b"\x11" * 32, server_ephemeral)
    s2 = nacl.bindings.crypto_scalarmult(b"\x11" * 32, to_x25519_public(BOB.public))
    return hashlib.sha256(MAIN_NETWORK + s1 + s2).digest()


def test_the_forged_box_would_open() -> None:
    """The forgery above fails for its identity, not because it was boxed wrongly."""
    opened = nacl.bindings.crypto_secretbox_open(transcript()[2], bytes(24), _first_box_key())
    assert opened[64:] == ALICE.public


def test_another_network_gets_no_byte() -> None:
    bob = server_machine(network=b"\x07" * 32)
    with pytest.raises(HandshakeFailed, match="network"):
        bob.receive(client_machine().hello)


def test_a_caller_with_another_key_for_us_gets_no_answer() -> None:
    alice, bob = client_machine(server=MALLORY.public), server_machine()
    third = alice.receive(bob.receive(alice.hello))
    with pytest.raises(HandshakeFailed, match="another key"):
        bob.receive(third)


def test_a_wrong_server_learns_nothing_about_the_caller() -> None:
    """Mallory answers in Bob's place; what Alice sends opens only with Bob's secret key."""
    alice = client_machine()
    mallory = ServerHandshake(MALLORY, b"\x22" * 32)
    third = alice.receive(mallory.receive(alice.hello))
    assert ALICE.public not in third
    with pytest.raises(HandshakeFailed):
        mallory.receive(third)
    with pytest.raises(HandshakeFailed, match="could not prove"):
        alice.receive(bytes(80))


def test_an_unwanted_caller_is_told_nothing() -> None:
    alice, bob = client_machine(), server_machine(allow=False)
    third = alice.receive(bob.receive(alice.hello))
    with pytest.raises(HandshakeFailed, match="not let in") as caught:
        bob.receive(third)
    assert caught.value.step == Step.SERVER_ACCEPT
    assert bob.keys is None
    assert "not let us in" in alice.end_of_input().reason


def test_a_node_can_dial_itself() -> None:
    client, server = ClientHandshake(BOB, BOB.public, b"\x11" * 32), server_machine()
    client.receive(server.receive(client.receive(server.receive(client.hello))))
    assert client.keys is not None
    assert server.keys is not None
    assert client.keys.send_nonce == server.keys.receive_nonce
    assert server.keys.remote_public == BOB.public


@given(st.binary(min_size=64, max_size=400))
def test_other_protocols_get_no_byte(data: bytes) -> None:
    with pytest.raises(HandshakeFailed):
        server_machine().receive(data)
    with pytest.raises(HandshakeFailed):
        client_machine().receive(data)


@pytest.mark.parametrize(
    ("received", "step", "says"), [(0, Step.HELLO, "network key"), (1, Step.SERVER_ACCEPT, "does not let us in")]
)
def test_silence_is_explained_to_the_dialler(received: int, step: Step, says: str) -> None:
    alice = client_machine()
    if received:
        alice.receive(transcript()[1])
    error = alice.end_of_input()
    assert (error.step, says in error.reason) == (step, True)
    assert client_machine().timed_out().reason


def test_keys_of_a_wrong_size_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        ClientHandshake(ALICE, BOB.public, b"short")
