"""Rules of what need not be kept, as people write them: `hops=3 age=1y; type=vote age=90d; hops=2 bytes=500M`.

Rules stand between `;`, the conditions of one between blanks. What they mean is carried out in `feeds.retention`.
"""

import re
from typing import Final, NamedTuple

from feeds.errors import InvalidRule

__all__ = ["KEPT", "NEEDED", "Rule", "parse_rules"]

_DAY_MS: Final = 86_400_000
_SPANS: Final = {"h": _DAY_MS // 24, "d": _DAY_MS, "w": 7 * _DAY_MS, "y": 365 * _DAY_MS}
_SIZES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,5})([hdwy])")
_SIZE: Final = re.compile(r"([0-9]{1,12})([KMG]?)")
_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9/_.-]{0,99}")
NEEDED: Final = "contact"
"""The type that no rule takes."""
KEPT: Final = "about"
"""The type that only a rule that names it takes."""
RULES_MOST: Final = 20


class Rule(NamedTuple):
    """What fits all that is not None; `keep`, the bytes that may stay of what fits."""

    text: str
    hops: int | None = None
    age: int | None = None
    """Milliseconds."""
    types: tuple[str, ...] | None = None
    keep: int | None = None


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Read rules. Raises InvalidRule, which quotes what is wrong."""
    rules = tuple(_rule(" ".join(part.split())) for part in text.split(";") if part.strip())
    if len(rules) > RULES_MOST:
        raise InvalidRule(f"{len(rules)} rules are too many; {RULES_MOST} at most")
    return rules


def _rule(text: str) -> Rule:
    rule = Rule(text)
    for word in text.split():
        name, equals, value = word.partition("=")
        match name:
            case "hops" if value.isascii() and value.isdigit() and len(value) <= 2 and int(value) >= 1:
                new = rule._replace(hops=int(value))
            case "age" if found := _SPAN.fullmatch(value):
                new = rule._replace(age=int(found[1]) * _SPANS[found[2]])
            case "bytes" if found := _SIZE.fullmatch(value):
                new = rule._replace(keep=int(found[1]) * _SIZES[found[2]])
            case "type" if all(_TYPE.fullmatch(one) for one in value.split(",")):
                if NEEDED in value.split(","):
                    raise InvalidRule(
                        f"messages of the type {NEEDED} are always kept: who follows whom is made of them"
                    )
                new = rule._replace(types=tuple(dict.fromkeys(value.split(","))))
            case "hops" | "age" | "bytes" | "type":
                wanted = {
                    "hops": "a number from 1 to 99",
                    "age": "a span like 12h, 30d, 8w or 1y",
                    "bytes": "a size like 500000, 200M or 2G",
                    "type": "types with commas, such as vote,post",
                }
                raise InvalidRule(f"{name} is {wanted[name]}, not {value!r}")
            case _:
                raise InvalidRule(f"a rule has hops=N, age=SPAN, type=TYPES and bytes=SIZE, not {word!r}")
        if getattr(rule, _FIELDS[name]) is not None or not equals:
            raise InvalidRule(f"{name} stands twice in {text!r}")
        rule = new
    return rule


_FIELDS: Final = {"hops": "hops", "age": "age", "bytes": "keep", "type": "types"}
