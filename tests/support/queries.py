"""Queries by chance, and messages to put them to: what old programs may ask `query.read`."""

import random
from typing import Any

NAMES = ("@alice", "@bob", "@carol", "é", "\U0001f980", "")
TYPES = ("post", "vote", "about")
PATHS: tuple[tuple[str, ...], ...] = (
    ("key",),
    ("timestamp",),
    ("value", "author"),
    ("value", "sequence"),
    ("value", "content", "type"),
    ("value", "content", "rank"),
    ("value", "content", "name"),
    ("value", "content", "odd"),
)
ODD: tuple[Any, ...] = (None, True, False, 0, 1, 2.5, -3, "", "1", "abc", "\uffff", [], [1], ["a", 2], {}, {"a": 1})


def messages(chance: random.Random, count: int) -> list[dict[str, Any]]:
    """Objects in the shape of messages; some members are missing, some are of odd types."""
    found = []
    for number in range(count):
        content: dict[str, Any] = {"type": chance.choice(TYPES)}
        if chance.random() < 0.8:
            content["rank"] = chance.choice((-2, -1, 0, 1, 2, 3.5, 10))
        if chance.random() < 0.8:
            content["name"] = chance.choice(NAMES)
        if chance.random() < 0.7:
            content["odd"] = chance.choice(ODD)
        value = {"author": chance.choice(NAMES[:3]), "sequence": number + 1, "content": content}
        found.append({"key": f"%{number}", "value": value, "timestamp": 1000 + 10 * number})
    return found


def query(chance: random.Random) -> list[dict[str, Any]]:
    """A list of stages that every version of the old engine reads alike."""
    stages: list[dict[str, Any]] = [{"$filter": _nested(chance)} for _ in range(chance.choice((0, 1, 1, 2)))]
    if chance.random() < 0.4:
        stages.append({"$map": _map(chance)})
    elif chance.random() < 0.6:
        stages.append({"$reduce": _reduce(chance)})
    return stages or [{"$filter": _nested(chance)}]


def _nested(chance: random.Random) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    for path in chance.sample(PATHS, chance.choice((1, 1, 2))):
        below = rule
        for name in path[:-1]:
            below = below.setdefault(name, {})
        below[path[-1]] = _leaf(chance)
    return rule


def _leaf(chance: random.Random) -> Any:
    plain = [each for each in ODD if not isinstance(each, list | dict)]
    match chance.randrange(5):
        case 0:
            return chance.choice((*TYPES, *NAMES, *plain))
        case 1:
            return {"$prefix": chance.choice(("", "@", "@a", "p", "é", "\U0001f980"))}
        case 2:
            return {chance.choice(("$gt", "$gte", "$lt", "$lte")): chance.choice((*NAMES, *ODD))}
        case 3:
            return {"$gte": chance.choice((-1, 0, 2, "@a")), "$lt": chance.choice((2, 5, 1100, "@c"))}
    return {"$gt": chance.choice((None, 0, 1050))}


def _path(chance: random.Random) -> Any:
    path = list(chance.choice((*PATHS, ("value", "content", "odd", "a"), ("value", "content", "name", "length"))))
    return path[0] if len(path) == 1 else path


def _map(chance: random.Random) -> Any:
    match chance.randrange(4):
        case 0:
            return _path(chance)
        case 1:
            return True
        case 2:
            return {"key": True, "timestamp": "timestamp", "found": _path(chance)}
    return {"one": _path(chance), "other": _path(chance)}


def _reduce(chance: random.Random) -> Any:
    tells = (["value", "author"], ["value", "content", "type"])
    rank = ["timestamp"]
    counts = {"count": {"$count": True}, "latest": {"$max": rank}, "first": {"$min": rank}, "total": {"$sum": rank}}
    some = dict(chance.sample(sorted(counts.items()), 2))
    match chance.randrange(5):
        case 0:
            return {"author": tells[0], **some}
        case 1:
            return {"author": tells[0], "type": tells[1], "keys": {"$collect": "key"}}
        case 2:
            return some
        case 3:
            return {"$count": True}
    return {"by": {"author": tells[0]}, **some}
