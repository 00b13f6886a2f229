"""The commands for invites, against two running nodes."""

import time
from pathlib import Path

from node.cli import main
from replication.address import parse_invite
from tests.support.processes import NodeProcess, wait_until


def test_an_invite_from_one_node_to_another_by_the_command_line(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "pub") as pub, NodeProcess(tmp_path / "guest") as guest:
        refused = pub.sbot("invite.create")
        assert refused.code == 1
        assert "--external" in refused.err
        code = pub.ok("invite", "create", "2", "--external", "127.0.0.1", "--note", "hello", "--expires-in", "1h")
        assert parse_invite(code).key == pub.id
        joined = guest.ok("join", f'"{code}"')
        assert (joined["pub"], joined["already"], len(joined["messages"])) == (pub.id, False, 2)
        assert guest.ok("invite.accept", code)["already"] is True
        wait_until(lambda: pub.clock().get(guest.id) == 2, 10, "the pub has the guest's feed")
        listed = pub.ok("invite", "list")
        assert (listed["used"], listed["uses"], listed["state"], listed["note"]) == (1, 2, "open", "hello")
        assert listed["expires"] / 1000 > time.time()
        assert pub.ok("invite.revoke", listed["id"]) == {"id": listed["id"], "revoked": True}
        assert main(["--path", str(pub.directory), "invite.revoke", listed["id"]]) == 4

        picture = pub.sbot("invite.create", "--external", "pub.example.org", "--qr")
        assert picture.code == 0
        assert len(picture.out.splitlines()) > 15
        for words in (("join", "hello"), ("invite.accept", "hello"), ("invite.create", "0"), ("join",)):
            assert main(["--path", str(guest.directory), *words]) == 2, words
