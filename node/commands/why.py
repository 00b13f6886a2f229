"""`sbot why` and `sbot preview`: why something is fetched or is not, and what more hops would bring."""

from typing import Any, cast

from feeds.canonical_json import compact
from node.commands.catalogue import Invocation
from node.commands.local import Local, local
from node.errors import UsageError

PEERS_SHOWN = 5


def why(invocation: Invocation) -> int:
    """Explain a feed, message or blob; a feed may be given by its name."""
    with local(invocation, least=1, most=1) as here:
        (word,) = here.words
        id = word if word.startswith(("%", "&", "ssb:")) else here.people.find(word)
        found = cast(dict[str, Any], here.node.why(id))
        if not here.output.pretty:
            here.output.json_texts([compact(found)])
            return 0
        here.people.learn([list(found["path"]), [peer["peer"] for peer in found["offered_by"][:PEERS_SHOWN]]])
        here.output.fields(_fields(here, found))
    return 0


def preview(invocation: Invocation) -> int:
    """Tell what another number of hops would fetch."""
    with local(invocation, most=0, valued=("hops",)) as here:
        hops = here.found.values.get("hops")
        if hops is None or not hops.isascii() or not hops.isdigit() or len(hops) > 2:
            raise UsageError("--hops needs a whole number from 0 to 32.")
        found = here.node.preview(int(hops))
        if not here.output.pretty:
            here.output.json_texts([compact(found)])
            return 0
        here.output.fields(
            (name.replace("_", " "), _size(value) if name.endswith("bytes") else value)
            for name, value in found.items()
            if name != "by_hop"
        )
    return 0


def _size(size: int) -> str:
    return f"{size} bytes" if size < 1024 * 1024 else f"{size / (1024 * 1024):.1f} MiB"


def _fields(here: Local, found: dict[str, Any]) -> list[tuple[str, object]]:
    label = here.people.label
    fields: list[tuple[str, object]] = [
        (found["kind"], found["id"]),
        ("here", "yes" if found["held"] else "no"),
        ("wanted", f"{'yes' if found['wanted'] else 'no'}: {found['reason']}"),
    ]
    if len(found["path"]) > 1:
        fields.append(("way", " → ".join(map(label, found["path"]))))
    if found["hops"] is not None:
        fields.append(("hops", found["hops"]))
    for peer in found["offered_by"][:PEERS_SHOWN]:
        when = "" if peer["connected"] else ", not connected now"
        what = "bytes" if found["kind"] == "blob" else "messages of the feed"
        fields.append(("offered by", f"{label(peer['peer'])} ({peer['has']} {what}{when})"))
    fields.append(("holders", f"{found['holders']} of the peers that told us have all that we have"))
    if found["error"] is not None:
        peer = found["error"]["peer"]
        fields.append(("last error", found["error"]["reason"] + (f" (from {label(peer)})" if peer else "")))
    if found["limit"] is not None:
        fields.append(("held back", found["limit"]))
    return fields + [("to do", sentence) for sentence in found["would_change"]]
