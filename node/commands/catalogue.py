"""Every command of `sbot`: its name, where its code is, and what the help says. Loading this loads no command.

A command's function takes an `Invocation` and returns the exit code. Names are written with dots; on the command line a
blank does as well (`friends hops`).
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Command:
    """`target` is module:function below node.commands."""

    name: str
    target: str
    usage: str
    summary: str
    aliases: tuple[str, ...] = ()
    group: str = "node"


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of a command: the words after its name, the environment, and the name or alias that was typed."""

    command: Command
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    spelled: str


class Runner(Protocol):
    def __call__(self, invocation: Invocation) -> int: ...


COMMANDS: tuple[Command, ...] = (
    Command("start", "start:start", "[options]", "run a node until it is told to stop (SIGINT, SIGTERM)", ("server",)),
    Command(
        "init",
        "identity:init",
        '[--words "W…"|--import DIR]',
        "make the data directory and the identity, start nothing",
    ),
    Command("backup", "backup:backup", "DIR [--with-key]", "copy the data directory, also while the node runs"),
    Command("restore", "backup:restore", "DIR", "make a data directory (--path) from a backup; its feed starts locked"),
    Command("key.words", "keys:words", "", "print the key as 24 words, to be written down"),
    Command("key.export", "keys:export", "FILE", "write the key to a file that only a passphrase opens"),
    Command("key.import", "keys:import_file", "FILE", "take over the key in a file; its feed starts locked"),
    Command("key.encrypt", "keys:encrypt", "", "encrypt the key file of this node with a passphrase"),
    Command("key.decrypt", "keys:decrypt", "", "write the key file of this node in its plain form again"),
    Command(
        "retention",
        "retention:retention",
        "[RULES…] [--dry-run]",
        "erase messages of others that need not be kept, such as 'hops=3 age=1y'",
    ),
    Command("config", "settings:show", "[options]", "print each setting and where it came from"),
    Command("version", "identity:version", "", "print the version"),
    Command("token.list", "tokens:list_tokens", "", "tokens of other programs"),
    Command(
        "token.create",
        "tokens:create",
        "NAME SCOPE… [--expires-in 30d]",
        "make a token: read, publish, private, admin",
    ),
    Command("token.revoke", "tokens:revoke", "ID", "end a token"),
    Command("whoami", "identity:whoami", "", "print the id of this node"),
    Command("status", "status:status", "", "what the running node holds and does"),
    Command(
        "unlock", "unlock:unlock", "[--sequence N]", "why our feed is locked; with its last number: open it by hand"
    ),
    Command("proof", "proof:proof", "ID | --verify FILE|-", "proof that a feed is forked: print it, or check one"),
    Command("why", "why:why", "ID|WHO", "why a feed, message or blob is fetched, or is not"),
    Command("preview", "why:preview", "--hops N", "what another number of hops would fetch"),
    Command("manifest", "remote:manifest", "", "every muxrpc method of the running node"),
    Command("post", "writing:post", "[TEXT|-] [--channel C] [--warning W]", "publish a post", group="people"),
    Command("reply", "writing:reply", "ID [TEXT|-] [--warning W]", "answer a message", group="people"),
    Command("like", "writing:like", "ID [--undo] [--expression E]", "say that we like a message", group="people"),
    Command("dm", "writing:dm", "WHO… TEXT|-", "publish a post that only some can read", group="people"),
    Command(
        "read",
        "reading:read",
        "[home|public|mentions|private|#CHANNEL|WHO] [--limit N] [--since T] [--no-replies]",
        "a timeline, the newest last",
        group="people",
    ),
    Command("thread", "reading:thread", "ID", "the whole thread that a message belongs to", group="people"),
    Command(
        "search",
        "reading:search",
        "WORDS… [--type T] [--by WHO] [--limit N]",
        "public messages with these words",
        group="people",
    ),
    Command(
        "tail",
        "reading:tail",
        "[--type T] [--by WHO] [--since POSITION] [--limit N]",
        "messages as they come",
        group="people",
    ),
    Command("who", "relations:who", "[WHO]", "what is known of somebody", group="people"),
    Command("name", "relations:name", "[WHO] NAME", "say what we call somebody, or ourselves", group="people"),
    Command("follow", "graph:follow", "WHO [--state false]", "follow a feed", ("friends.follow",), group="people"),
    Command("unfollow", "relations:unfollow", "WHO", "follow a feed no longer", group="people"),
    Command("block", "graph:block", "WHO [--state false]", "block a feed", ("friends.block",), group="people"),
    Command("unblock", "relations:unblock", "WHO", "block a feed no longer", group="people"),
    Command("mute", "hiding:mute", "[WHO]", "leave somebody out of timelines and searches here", group="people"),
    Command("unmute", "hiding:unmute", "WHO", "mute somebody no longer", group="people"),
    Command(
        "delete",
        "hiding:delete",
        "ID [--erase] [--undo]",
        "hide a message or a feed on this node, or take its bytes off the disk",
        group="people",
    ),
    Command("publish", "publish:publish", "--type T [--KEY VALUE …] | .", "sign and store a message", group="messages"),
    Command("get", "messages:get", "ID [--private]", "one message by its id", group="messages"),
    Command(
        "private.publish",
        "private:publish",
        "ID… --type T [--KEY VALUE …] | ID… .",
        "encrypt, sign and store a message for some",
        group="messages",
    ),
    Command(
        "private.read",
        "private:read",
        "[--limit N] [--reverse] [--live] [--author ID]",
        "private messages that we can read",
        group="messages",
    ),
    Command("private.unbox", "private:unbox", "TEXT|ID", "decrypt a text or a message", group="messages"),
    Command(
        "createLogStream",
        "messages:stream",
        "[--limit N] [--reverse] [--live] [--gt T] [--private]",
        "all messages in order of arrival",
        ("log",),
        group="messages",
    ),
    Command(
        "createHistoryStream",
        "messages:stream",
        "ID [--seq N] [--live] [--limit N] [--keys false]",
        "one feed from a sequence on",
        ("hist",),
        group="messages",
    ),
    Command(
        "createFeedStream",
        "messages:stream",
        "[--limit N] [--reverse] [--gt T] [--lt T]",
        "all messages by claimed time",
        ("feed",),
        group="messages",
    ),
    Command(
        "createUserStream", "messages:stream", "ID [--limit N] [--reverse]", "one feed by sequence", group="messages"
    ),
    Command(
        "messagesByType",
        "messages:stream",
        "TYPE [--limit N] [--live]",
        "messages of one type",
        ("logt",),
        group="messages",
    ),
    Command("links", "messages:stream", "[--source ID] [--dest ID] [--rel R]", "who links to what", group="messages"),
    Command("latest", "messages:stream", "", "the latest sequence of each feed", group="messages"),
    Command("getLatest", "messages:latest", "ID", "the last message of a feed", group="messages"),
    Command("latestSequence", "messages:latest", "ID", "the last sequence of a feed", group="messages"),
    Command("getVectorClock", "messages:clock", "", "all feeds and their last sequences", group="messages"),
    Command(
        "verify", "verify:verify", "[FILE|-] [--hmac-key B64] [--out-of-order]", "check messages", group="messages"
    ),
    Command(
        "gossip.connect", "peers:connect", "ADDRESS", "connect to a peer", ("connect", "conn.connect"), group="peers"
    ),
    Command("gossip.peers", "peers:peers", "", "connections and known peers", ("peers", "conn.peers"), group="peers"),
    Command("gossip.add", "peers:act", "ADDRESS", "remember a peer", ("conn.remember",), group="peers"),
    Command("gossip.remove", "peers:act", "ADDRESS", "forget a peer", ("conn.forget",), group="peers"),
    Command(
        "gossip.disconnect", "peers:act", "ADDRESS|ID", "hang up", ("disconnect", "conn.disconnect"), group="peers"
    ),
    Command(
        "invite.create",
        "inviting:create",
        "[USES] [--note T] [--expires-in 30d] [--external HOST[:PORT]] [--modern] [--qr]",
        "make an invite: whoever has it may ask this node to follow a feed",
        group="peers",
    ),
    Command("room.list", "rooms:list_rooms", "", "rooms and who is in them", ("rooms",), group="peers"),
    Command("room.join", "rooms:join", "ADDRESS|INVITE", "join a room", group="peers"),
    Command("room.leave", "rooms:leave", "ID", "leave a room", group="peers"),
    Command("room.alias", "rooms:register", "ROOM NAME", "take a name in a room", group="peers"),
    Command("room.revoke", "rooms:revoke", "ROOM NAME", "give a name in a room back", group="peers"),
    Command("room.visit", "rooms:consume", "LINK", "connect to whom an alias leads to", group="peers"),
    Command("invite.list", "inviting:list_invites", "", "invites of this node", group="peers"),
    Command("invite.revoke", "inviting:revoke", "ID", "end an invite", group="peers"),
    Command("invite.accept", "inviting:accept", "CODE", "redeem an invite of another node", group="peers"),
    Command(
        "join",
        "inviting:join",
        "INVITE|ADDRESS|LINK",
        "redeem an invite, join a room, or connect to an address or alias",
        group="people",
    ),
    Command("friends.hops", "graph:hops", "[--max N]", "feeds by distance from here", group="graph"),
    Command("friends.isFollowing", "graph:relation", "[SOURCE] DEST", "does one follow the other", group="graph"),
    Command("friends.isBlocking", "graph:relation", "[SOURCE] DEST", "does one block the other", group="graph"),
    Command(
        "replicate.upto", "replication:upto", "", "each feed asked for and how far we have it", group="replication"
    ),
    Command(
        "replicate.request", "replication:request", "ID [true|false]", "ask for a feed by hand", group="replication"
    ),
    Command(
        "ebt.peerStatus", "replication:peer_status", "ID", "what peers say they have of a feed", group="replication"
    ),
    Command("blobs.add", "blobs:add", "[FILE|-]", "add a file or standard input; prints its id", group="blobs"),
    Command("blobs.get", "blobs:get", "ID", "a blob's bytes to standard output", group="blobs"),
    Command("blobs.has", "blobs:has", "ID …", "is it here", group="blobs"),
    Command("blobs.size", "blobs:size", "ID", "its size in bytes", group="blobs"),
    Command("blobs.ls", "blobs:ls", "[--long] [--live]", "blobs in the order they came", group="blobs"),
    Command("blobs.rm", "blobs:remove", "ID", "remove a blob", group="blobs"),
    Command("blobs.want", "blobs:want", "ID [--wait]", "ask for a blob", group="blobs"),
    Command("doctor", "doctor:doctor", "[--fix]", "what is wrong with this node, and what to do"),
    Command("demo", "demo:demo", "", "three nodes of this machine's own meet and talk; nothing is left of it"),
    Command("clock", "bundles:clock", "", "what we have and want: a clock file, for whoever exports for us"),
    Command(
        "export",
        "bundles:export",
        "FILE|- [--for CLOCKFILE] [--feeds ID …] [--hops N] [--no-blobs] [--max-bytes N] [--format bundle|jsonl]",
        "messages and blobs to a bundle, for those whom no network reaches",
    ),
    Command(
        "import", "bundles:take_in", "FILE|-|URL … [--max-bytes N]", "take in bundles, or JSON lines of createLogStream"
    ),
    Command("inspect", "bundles:look", "FILE|-|URL", "what a bundle holds, without taking it in"),
    Command("fsck", "care:fsck", "[--full] [--repair]", "look the store through for damage; what to do about it"),
    Command("du", "care:du", "", "what takes how much room: feeds, types, tables, blobs"),
    Command("vacuum", "care:vacuum", "", "make the database file small again after much was deleted"),
    Command("rebuild", "rebuild:rebuild", "[VIEW …]", "make views (all, or some) anew from the log"),
    Command("pipe", "pipe:pipe", "ADDRESS | --listen HOST:PORT", "standard input and output over an encrypted stream"),
)


def find(words: Sequence[str]) -> tuple[Command, str, int] | None:
    """The command that the first words name: the command, the spelling used, and how many words that took."""
    for count in range(min(len(words), 3), 0, -1):
        spelled = ".".join(words[:count])
        for command in COMMANDS:
            if spelled == command.name or spelled in command.aliases:
                return command, spelled, count
    return None


def runner(command: Command) -> Runner:
    """The function behind a command; imports its module now."""
    module, _, function = command.target.partition(":")
    loaded: Runner = getattr(importlib.import_module(f"node.commands.{module}"), function)
    return loaded
