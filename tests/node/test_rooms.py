"""The commands for rooms, against a node that is a room and one that joins it."""

from pathlib import Path

from replication.address import parse_address
from replication.room_aliases import Alias, alias_uri, sign_alias
from replication.room_state import tunnel_address
from tests.support.builders import keypair
from tests.support.processes import NodeProcess, wait_until


def test_rooms_by_the_command_line(tmp_path: Path) -> None:
    with (
        NodeProcess(tmp_path / "room", "--room", "Lobby") as room,
        NodeProcess(tmp_path / "a", "--room-guests", "anyone") as a,
        NodeProcess(tmp_path / "b") as b,
    ):
        joined = a.ok("room", "join", room.address)
        assert (joined["id"], joined["name"], joined["connected"]) == (room.id, "Lobby", True)
        b.ok("room.join", room.address)
        wait_until(lambda: a.ok("rooms")["attendants"] == [b.id], 10, "they see each other")
        b.ok("connect", tunnel_address(room.id, a.id))
        refused = a.sbot("room", "alias", room.id, "ann")
        assert refused.code != 0
        assert "the room refused room.registerAlias" in refused.err
        stranger = keypair("stranger")
        where = str(parse_address(room.address))
        link = alias_uri(Alias("x", stranger.id, room.id, where, sign_alias(stranger, room.id, "x")))
        forged = b.sbot("join", link.replace("alias=x", "alias=y"))
        assert "signature" in forged.err
        assert a.ok("room.leave", room.id) == {"id": room.id, "left": True}
        assert a.sbot("rooms").out == b""
