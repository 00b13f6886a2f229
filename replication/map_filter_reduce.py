"""Queries over a stream of messages, as programs for the old sbot write them (`query.read`; protocol.md section 19).

A query is a list of stages, each an object with one of `$filter`, `$map`, `$reduce`, `$sort`. They mean what the npm
package map-filter-reduce gives them (version 3; `$group` from version 2), on JavaScript's terms: a member that is not
there is `MISSING`, and `<` compares as JavaScript does. Pure: values in, values out. A stage that keeps what it was
given (`$reduce`, `$sort`) keeps only so much.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cmp_to_key
from typing import Any, Final

from replication.errors import LocalError
from replication.javascript_values import MISSING, compare_ordered, less, member, same, to_number, truthy, type_of

__all__ = ["MAX_HELD", "InvalidQuery", "Pipeline", "compile_query", "first_filter"]

MAX_HELD: Final = 64 * 1024 * 1024
"""Bytes, roughly, that the stages of one query may keep."""
MAX_STAGES: Final = 100
MAX_DEPTH: Final = 64
MAX_PARTS: Final = 20_000

Value = Any
Test = Callable[[Value], bool]
Change = Callable[[Value], Value]
Step = Callable[[Value, Value], Value]
"""Takes what was gathered so far (MISSING at first) and one more value."""


class InvalidQuery(LocalError, ValueError):
    """The text is no query that we can answer; the message says which part of it."""


class Pipeline:
    """A compiled query for one stream: `push` values, then `finish` when there are no more."""

    def __init__(self, stages: "Sequence[_Stage]") -> None:
        self._stages = stages

    @property
    def gathers(self) -> bool:
        """Whether it answers only when there is nothing more to come."""
        return any(not isinstance(stage, _Each) for stage in self._stages)

    def push(self, values: Iterable[Value]) -> list[Value]:
        """What comes out for these values. Raises InvalidQuery when a stage would have to keep too much."""
        return _through(self._stages, list(values))

    def finish(self) -> list[Value]:
        """What was gathered."""
        found: list[Value] = []
        for stage in self._stages:
            found = [*stage.push(found), *stage.finish()]
        return found


def compile_query(query: Value, *, max_held: int = MAX_HELD) -> Pipeline:
    """Read a query: a list of stages, one stage alone, or a bare filter. Raises InvalidQuery with what is wrong."""
    stages = _stages_of(query)
    if len(stages) > MAX_STAGES:
        raise InvalidQuery(f"a query may have at most {MAX_STAGES} stages")
    if not _shallow(stages, MAX_DEPTH):
        raise InvalidQuery(f"a query may nest at most {MAX_DEPTH} deep")
    if _parts(stages) > MAX_PARTS:
        raise InvalidQuery(f"a query may have at most {MAX_PARTS} parts")
    held = _Held(max_held)
    return Pipeline([_stage(stage, held) for stage in stages])


def first_filter(query: Value) -> Value:
    """What every message has to fit before anything else is done with it; an empty object if that is nothing."""
    stages = _stages_of(query)
    first = stages[0] if stages else {}
    return first["$filter"] if next(iter(first), None) == "$filter" else {}


def _stages_of(query: Value) -> list[dict[str, Value]]:
    if isinstance(query, dict):
        query = [query] if any(name in query for name in _STAGES) else [{"$filter": query}]
    if not isinstance(query, list):
        raise InvalidQuery("a query is a list of stages like {$filter: ...}")
    stages = [stage for stage in query if truthy(stage)]
    if not all(isinstance(stage, dict) for stage in stages):
        raise InvalidQuery("each stage of a query is an object like {$filter: ...}")
    return stages


def _shallow(value: Value, depth: int) -> bool:
    if depth < 0:
        return False
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(_shallow(each, depth - 1) for each in below)


def _parts(value: Value) -> int:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_parts, below))


class _Held:
    """How much the stages keep."""

    def __init__(self, most: int) -> None:
        self._left = most

    def add(self, value: Value) -> None:
        self._left -= _size(value)
        if self._left < 0:
            raise InvalidQuery("the query has to keep too much at once; put a narrower $filter, or a $map, before it")


def _size(value: Value) -> int:
    match value:
        case str():
            return 60 + 2 * len(value)
        case dict():
            return 100 + sum(100 + len(name) + _size(each) for name, each in value.items())
        case list():
            return 60 + sum(8 + _size(each) for each in value)
    return 32


# Stages.


class _Each:
    """A stage that looks at each value alone."""

    def __init__(self, push: Callable[[list[Value]], list[Value]]) -> None:
        self.push = push

    def finish(self) -> list[Value]:
        return []


class _Reduce:
    """A stage that makes one value of all, and hands out the members of that."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._gathered: Value = MISSING

    def push(self, values: list[Value]) -> list[Value]:
        for value in values:
            self._gathered = self._step(self._gathered, value)
        return []

    def finish(self) -> list[Value]:
        found = self._gathered
        match found:
            case _Groups():
                return found.rows()
            case dict():
                return [_plain(each) for each in found.values()]
            case list():
                return found
        return [] if found is None or found is MISSING else [found]


class _Sort:
    """A stage that waits for all and orders them."""

    def __init__(self, compare: Callable[[Value, Value], int], held: _Held) -> None:
        self._compare = compare
        self._held = held
        self._kept: list[Value] = []

    def push(self, values: list[Value]) -> list[Value]:
        for value in values:
            self._held.add(value)
            self._kept.append(value)
        return []

    def finish(self) -> list[Value]:
        return sorted(self._kept, key=cmp_to_key(self._compare))


_Stage = _Each | _Reduce | _Sort


def _through(stages: Sequence[_Stage], values: list[Value]) -> list[Value]:
    for stage in stages:
        if not values:
            break
        values = stage.push(values)
    return values


def _stage(stage: dict[str, Value], held: _Held) -> _Stage:
    name, rule = next(iter(stage.items()), ("{}", None))
    make = _STAGES.get(name)
    if make is None:
        raise InvalidQuery(f"unknown stage {name[:40]}: there are {', '.join(_STAGES)}")
    return make(rule, held)


def _filter_stage(rule: Value, _held: _Held) -> _Stage:
    test = _test(rule)
    return _Each(lambda values: [value for value in values if test(value)])


def _map_stage(rule: Value, _held: _Held) -> _Stage:
    change = _shape(rule)
    return _Each(lambda values: [found for value in values if truthy(found := change(value))])


def _reduce_stage(rule: Value, held: _Held) -> _Stage:
    return _Reduce(_reduction(rule, held))


def _sort_stage(rule: Value, held: _Held) -> _Stage:
    if not isinstance(rule, list):
        raise InvalidQuery("$sort takes a list of paths")
    ways = [_way(path) for path in rule]

    def compare(one: Value, other: Value) -> int:
        for get, sign in ways:
            if order := compare_ordered(get(one), get(other)):
                return sign * order
        return 0

    return _Sort(compare, held)


def _way(path: Value) -> tuple[Change, int]:
    """How to get at what is compared, and -1 for the greatest first."""
    if isinstance(path, dict):
        if set(path) != {"$reverse"}:
            raise InvalidQuery("$sort: expected a path, or {$reverse: path}")
        return _change(path["$reverse"]), -1
    return _change(path), 1


_STAGES: Final[dict[str, Callable[[Value, _Held], _Stage]]] = {
    "$filter": _filter_stage,
    "$map": _map_stage,
    "$reduce": _reduce_stage,
    "$sort": _sort_stage,
}


# $filter.


def _test(rule: Value) -> Test:
    """Whether a value fits: equal to a plain one, in each member for an object or a list, or by operators."""
    if _has_operators(rule):
        change = _operators(rule)
        return lambda value: truthy(change(value))
    if isinstance(rule, dict | list):
        names = rule.items() if isinstance(rule, dict) else enumerate(rule)
        tests = [(name, _test(each)) for name, each in names]
        return lambda value: (
            value is not None and value is not MISSING and all(test(member(value, name)) for name, test in tests)
        )
    return lambda value: same(value, rule)


def _has_operators(rule: Value) -> bool:
    """Whether the names in an object are operators; a mix of both is refused: half of it would be ignored."""
    if not isinstance(rule, dict):
        return False
    marked = sum(1 for name in rule if name.startswith("$"))
    if marked and marked != len(rule):
        raise InvalidQuery("operators and names of members cannot stand in one object")
    return marked > 0


def _operators(rule: dict[str, Value]) -> Change:
    """All operators of an object; the answer of the last one, or of the first that says no."""
    changes = [_operator(name, argument) for name, argument in rule.items()]
    if len(changes) == 1:
        return changes[0]

    def all_of(value: Value) -> Value:
        found: Value = True
        for change in changes:
            found = change(value)
            if not truthy(found):
                break
        return found

    return all_of


def _operator(name: str, argument: Value) -> Change:
    match name:
        case "$lt":
            return lambda value: less(value, argument)
        case "$gt":
            return lambda value: less(argument, value)
        case "$lte":
            return lambda value: less(value, argument, or_equal=True)
        case "$gte":
            return lambda value: less(argument, value, or_equal=True)
        case "$eq":
            return lambda value: same(value, argument)
        case "$ne":
            return lambda value: not same(value, argument)
        case "$not":
            return lambda value: not truthy(value)
        case "$truthy":
            return truthy
        case "$is":
            return lambda value: type_of(value) == argument
        case "$type":
            return type_of
        case "$in":
            return _one_of(argument)
        case "$prefix":
            return _begins(argument)
        case "$int":
            return lambda value: _number(value) and to_number(value).is_integer()
        case "$mod":
            return lambda value: _remainder(to_number(value), to_number(argument))
        case "$get":
            return _change(argument)
        case "$filter":
            return _test(argument)
        case "$map":
            return _shape(argument)
    raise InvalidQuery(f"unknown operator {name[:40]}")


def _one_of(choices: Value) -> Test:
    if not isinstance(choices, list):
        raise InvalidQuery("$in takes a list")
    texts = frozenset(choice for choice in choices if isinstance(choice, str))
    others = [choice for choice in choices if not isinstance(choice, str)]
    return lambda value: value in texts if isinstance(value, str) else any(same(value, choice) for choice in others)


def _begins(start: Value) -> Test:
    if isinstance(start, str):
        return lambda value: isinstance(value, str) and value.startswith(start)
    if not isinstance(start, list):
        raise InvalidQuery("$prefix takes a text or a list")
    return lambda value: isinstance(value, list) and len(value) >= len(start) and all(map(same, value, start))


def _number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _remainder(value: float, by: float) -> float:
    return math.fmod(value, by) if by and math.isfinite(value) and not math.isnan(by) else math.nan


# $map.


def _change(rule: Value) -> Change:
    """A member by name, or by number (from the end if negative); `true` is all; a list is a way through several."""
    match rule:
        case True:
            return lambda value: value
        case str():
            return lambda value: member(value, rule)
        case bool():
            pass
        case int():
            return lambda value: member(
                value, rule if rule >= 0 or not isinstance(value, str | list) else len(value) + rule
            )
        case list():
            return _way_through([_change(step) for step in rule])
        case dict() if rule:
            return _operators(rule) if _has_operators(rule) else _shape(rule)
    raise InvalidQuery("expected a name, a number, true, or a list of them")


def _way_through(steps: list[Change]) -> Change:
    def follow(value: Value) -> Value:
        for step in steps:
            value = step(value)
        return value

    return follow


def _shape(rule: Value) -> Change:
    """As `_change`, and an object becomes an object with each of its members found so; `true` keeps the name."""
    if not isinstance(rule, dict) or _has_operators(rule):
        return _change(rule)
    parts = [(name, _change(name) if each is True else _shape(each)) for name, each in rule.items()]

    def build(value: Value) -> Value:
        if value is None or value is MISSING or not parts:
            return MISSING
        return {name: found for name, part in parts if (found := part(value)) is not MISSING}

    return build


# $reduce.


class _Groups:
    """Rows, one for each combination of the values that tell groups apart."""

    def __init__(self) -> None:
        self.by_key: dict[object, tuple[list[Value], Value]] = {}

    def rows(self) -> list[Value]:
        """In order of those values."""

        def compare(one: tuple[list[Value], Value], other: tuple[list[Value], Value]) -> int:
            return compare_ordered(one[0], other[0])

        return [_plain(row) for _, row in sorted(self.by_key.values(), key=cmp_to_key(compare))]


def _plain(value: Value) -> Value:
    """Groups within what was gathered as lists."""
    if isinstance(value, _Groups):
        return value.rows()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if each is not MISSING}
    return value


def _reduction(rule: Value, held: _Held) -> Step:
    """Reductions by name; if there are ways to values among them, those tell groups apart and each has its own row."""
    if isinstance(rule, dict) and "$group" in rule:
        return _nested_groups(rule, held)
    keys: list[Change] = []
    step = _gathering(rule, keys, held)
    return _grouped(keys, step, held) if keys else step


def _gathering(rule: Value, keys: list[Change], held: _Held) -> Step:
    """The step of a reduction; adds to `keys` what tells groups apart."""
    if isinstance(rule, dict) and not _has_operators(rule):
        steps = [(name, _gathering(each, keys, held)) for name, each in rule.items()]

        def each_step(gathered: Value, value: Value) -> Value:
            before = gathered if isinstance(gathered, dict) else {}
            return {name: step(before.get(name, MISSING), value) for name, step in steps}

        return each_step
    if isinstance(rule, dict):
        if "$group" in rule or "$reduce" in rule:
            return _reduction(rule if "$group" in rule else rule["$reduce"], held)
        name, argument = next(iter(rule.items()))
        if name in _SIMPLE or name == "$collect":
            return _simple(name, _change(argument), held)
    key = _change(rule)
    keys.append(key)
    return lambda _gathered, value: key(value)


def _grouped(keys: list[Change], step: Step, held: _Held) -> Step:
    def gather(gathered: Value, value: Value) -> Value:
        groups = gathered if isinstance(gathered, _Groups) else _Groups()
        found = [key(value) for key in keys]
        place = _hashable(found)
        if place not in groups.by_key:
            held.add(found)
            held.add(found)
        _, row = groups.by_key.get(place, (found, MISSING))
        groups.by_key[place] = (found, step(row, value))
        return groups

    return gather


def _nested_groups(rule: dict[str, Value], held: _Held) -> Step:
    """Objects in objects, by the text of one value after another."""
    group = rule["$group"]
    if "$reduce" not in rule or not isinstance(group, str | list):
        raise InvalidQuery("expected {$group: [path, ...], $reduce: ...}")
    ways = [_change(path) for path in (group if isinstance(group, list) else [group])]
    if not ways:
        raise InvalidQuery("$group: expected at least one path")
    step = _reduction(rule["$reduce"], held)

    def gather(gathered: Value, value: Value) -> Value:
        whole = gathered if isinstance(gathered, dict) else {}
        below = whole
        names = [_as_name(way(value)) for way in ways]
        for name in names[:-1]:
            if name not in below:
                held.add(name)
            below = below.setdefault(name, {})
        if names[-1] not in below:
            held.add(names[-1])
        below[names[-1]] = step(below.get(names[-1], MISSING), value)
        return whole

    return gather


def _as_name(value: Value) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case float() if value.is_integer():
            return str(int(value))
        case int() | float():
            return str(value)
        case list():
            return ",".join("" if each is None else _as_name(each) for each in value)
        case dict():
            return "[object Object]"
    return "undefined"


def _hashable(value: Value) -> object:
    match value:
        case list():
            return ("list", *map(_hashable, value))
        case dict():
            return ("dict", *((name, _hashable(each)) for name, each in sorted(value.items())))
        case bool():
            return ("bool", value)
    return value


def _simple(name: str, get: Change, held: _Held) -> Step:
    if name == "$collect":

        def collect(gathered: Value, value: Value) -> Value:
            found = get(value)
            held.add(found)
            whole = gathered if isinstance(gathered, list) else []
            whole.append(None if found is MISSING else found)
            return whole

        return collect
    step = _SIMPLE[name]
    return lambda gathered, value: step(gathered, get(value))


def _count(gathered: Value, value: Value) -> Value:
    before = 0 if gathered is MISSING else gathered
    return before if value is MISSING else before + 1


def _sum(gathered: Value, value: Value) -> Value:
    return _as_double((0 if gathered is MISSING else gathered) + _finite(value, 0))


def _product(gathered: Value, value: Value) -> Value:
    return _as_double((1 if gathered is MISSING else gathered or 1) * (_finite(value, 1) or 1))


def _as_double(number: float) -> float | int:
    """A number as JavaScript has and spells it: no whole ones beyond 2**53, and no point in the others."""
    if abs(number) > 2**53:
        return to_number(number)
    return int(number) if float(number).is_integer() else number


def _largest(gathered: Value, value: Value) -> Value:
    return _extreme(gathered, value, lambda one, other: one > other)


def _smallest(gathered: Value, value: Value) -> Value:
    return _extreme(gathered, value, lambda one, other: one < other)


def _extreme(gathered: Value, value: Value, better: Callable[[float, float], bool]) -> Value:
    """The better of both numbers; what is no number does not count."""
    found = _finite(value, math.nan)
    if math.isnan(found):
        return gathered
    return found if gathered is MISSING or better(found, gathered) else gathered


def _finite(value: Value, otherwise: float) -> float | int:
    """A number as it is, another value as JavaScript makes a number of it, `otherwise` if it cannot."""
    number = to_number(value)
    if not math.isfinite(number):
        return otherwise
    return value if _number(value) else number


_SIMPLE: Final[dict[str, Step]] = {
    "$count": _count,
    "$sum": _sum,
    "$product": _product,
    "$max": _largest,
    "$min": _smallest,
}
