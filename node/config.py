"""Settings: one table, four places they can come from, and where each value came from.

Precedence: command line flag > environment (`SBOT_…`) > `config.toml` > default. `path` and `config` say where the file
is, so they cannot stand in it. Everything here is values in, values out, except `load`, which reads the one file.
"""

import base64
import difflib
import enum
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feeds.errors import InvalidRef, InvalidRule
from feeds.refs import FeedRef
from feeds.retention_rules import parse_rules
from node.errors import UsageError
from replication.errors import InvalidAddress
from replication.invite_codes import parse_external
from replication.limits import ADJUSTABLE, DEFAULT_LIMITS, Limits, adjusted
from replication.socks import SocksProxy, parse_proxy

MAIN_NETWORK_KEY = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s="
"""The network key (caps.shs) of the main network: protocol.md section 1."""


class Source(enum.StrEnum):
    """Where a value came from."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


class BadValue(ValueError):
    """A value does not fit its option; the text says what would."""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: `parse` takes flag and environment text as well as TOML values, and raises BadValue."""

    name: str
    parse: Callable[[object], Any]
    default: object
    metavar: str
    help: str
    in_file: bool = True

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "SBOT_" + self.name.upper()


@dataclass(frozen=True, slots=True)
class Setting:
    """A value in force as `sbot config` shows it, and where it came from (`detail`: flag, variable or file)."""

    name: str
    value: object
    source: Source
    detail: str


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of one node, typed. Keys are raw 32 bytes; `path` is absolute."""

    path: Path
    config: Path
    host: str
    port: int
    external: str
    http_host: str
    http_port: int
    http_names: tuple[str, ...]
    network_key: bytes
    hmac_key: bytes | None
    hops: int
    lan: bool
    ws_port: int | None
    socks: SocksProxy | None
    socks_for: str
    strangers: str
    room_guests: str
    room: str
    private_web: bool
    autoconnect: bool
    dial_quotas: Mapping[str, int]
    own_pubs: tuple[str, ...]
    blob_max_bytes: int
    blob_quota_mib: int
    blob_fetch: str
    budget_mib: int
    budget_peer_mib: int
    budget_hops: Mapping[int, int]
    limits: Limits
    retention: str
    log_format: str
    log_level: str
    settings: tuple[Setting, ...] = ()


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadValue("must be a text that is not empty")
    return value.strip()


def _external(value: object) -> str:
    if not isinstance(value, str):
        raise BadValue("must be a host, or a host and a port")
    if value.strip():
        try:
            parse_external(value)
        except InvalidAddress as error:
            raise BadValue(f"must be HOST or HOST:PORT ({error})") from None
    return value.strip()


def _folder(value: object) -> Path:
    return Path(_text(value)).expanduser().absolute()


def _whole(lowest: int, highest: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        wanted = f"must be a whole number from {lowest} to {highest}"
        if isinstance(value, str):
            if not value.isascii() or not value.isdigit() or len(value) > 9:
                raise BadValue(wanted)
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise BadValue(wanted)
        return value

    return parse


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise BadValue("must be true or false")


def _choice(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value.lower() not in words:
            raise BadValue(f"must be one of {', '.join(words)}")
        return value.lower()

    return parse


def _key(value: object) -> bytes:
    wanted = "must be 32 bytes as standard base64, 44 characters ending in ="
    if not isinstance(value, str):
        raise BadValue(wanted)
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        raise BadValue(wanted) from None
    if len(raw) != 32 or base64.b64encode(raw).decode() != value:
        raise BadValue(wanted)
    return raw


def _optional_key(value: object) -> bytes | None:
    return None if value == "" else _key(value)


def _title(value: object) -> str:
    if not isinstance(value, str) or len(value) > 100 or not value.isprintable():
        raise BadValue("must be a name of at most 100 characters, on one line")
    return value.strip()


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise BadValue("must be host names, separated by commas")
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _feeds(value: object) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise BadValue("must be feed ids, separated by commas")
    try:
        return tuple(str(FeedRef.parse(name.strip())) for name in value.split(",") if name.strip())
    except InvalidRef as error:
        raise BadValue(f"must be feed ids, separated by commas ({error})") from None


def _optional_port(value: object) -> int | None:
    return None if value == "" else _whole(0, 65535)(value)


def _proxy(value: object) -> SocksProxy | None:
    if value == "":
        return None
    try:
        return parse_proxy(_text(value))
    except ValueError:
        raise BadValue("must be HOST:PORT, as in 127.0.0.1:9050") from None


_GROUPS = ("lan", "room", "pub", "followed", "stranger")


def _quotas(value: object) -> dict[str, int]:
    """`pub=2,lan=1`: numbers by group; groups that are not named keep their default."""
    wanted = f"must be like pub=2,lan=1, with numbers from 0 to 10 for {', '.join(_GROUPS)}"
    if not isinstance(value, str):
        raise BadValue(wanted)
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in _GROUPS or name in found or not number.isascii() or not number.isdigit() or len(number) > 2:
            raise BadValue(wanted)
        found[name] = int(number)
        if found[name] > 10:
            raise BadValue(wanted)
    return found


def _hop_budgets(value: object) -> dict[int, int]:
    """`2=100,3=50`: MiB a day by number of hops."""
    wanted = "must be like 2=100,3=50: hops from 1 to 32, and MiB a day"
    if not isinstance(value, str):
        raise BadValue(wanted)
    found: dict[int, int] = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        hop, _, size = (piece.strip() for piece in part.partition("="))
        if not all(text.isascii() and text.isdigit() and len(text) <= 9 for text in (hop, size)):
            raise BadValue(wanted)
        if not 1 <= int(hop) <= 32 or int(hop) in found:
            raise BadValue(wanted)
        found[int(hop)] = int(size)
    return found


def _limits(value: object) -> Limits:
    """`inbound=20,blob_wants=100`, or a table of such in the file."""
    pairs = value
    if isinstance(value, str):
        split = [part.partition("=") for part in value.split(",") if part.strip()]
        pairs = {name.strip(): number.strip() for name, _, number in split}
        if len(pairs) < len(split):
            raise BadValue("must name each limit once")
    if not isinstance(pairs, dict):
        raise BadValue("must be like inbound=20,blob_wants=100")
    found: dict[str, int] = {}
    for name, number in pairs.items():
        if name not in ADJUSTABLE:
            near = difflib.get_close_matches(name, ADJUSTABLE, n=1)
            raise BadValue(f"names {name}, which is no limit{f'; did you mean {near[0]}?' if near else ''}")
        try:
            found[name] = _whole(*ADJUSTABLE[name])(number)
        except BadValue as error:
            raise BadValue(f"gives {name} a value that {error}") from None
    return adjusted(found)


def _rules(value: object) -> str:
    """Rules of what to keep, as they stand there."""
    if not isinstance(value, str):
        raise BadValue("must be rules like hops=3 age=1y; type=vote age=90d")
    try:
        return "; ".join(rule.text for rule in parse_rules(value))
    except InvalidRule as error:
        raise BadValue(f"must be rules like hops=3 age=1y; type=vote age=90d ({error})") from None


OPTIONS: tuple[Option, ...] = (
    Option("path", _folder, "~/.pysbot", "DIR", "data directory: identity, feeds, token, socket", in_file=False),
    Option("config", _folder, "", "FILE", "settings file; default: config.toml in the data directory", in_file=False),
    Option("host", _text, "::", "HOST", "address on which peers may connect; :: for IPv6 and IPv4"),
    Option("port", _whole(0, 65535), 8008, "PORT", "TCP port for peers; 0 picks a free one"),
    Option("external", _external, "", "HOST[:PORT]", "address under which peers reach this node from outside"),
    Option("http_host", _text, "127.0.0.1", "HOST", "address of the local HTTP API"),
    Option("http_port", _whole(0, 65535), 8989, "PORT", "TCP port of the HTTP API; 0 picks a free one"),
    Option("http_names", _names, "", "NAMES", "names with commas that may stand for the HTTP API besides localhost"),
    Option(
        "network_key", _key, MAIN_NETWORK_KEY, "BASE64", "network key (caps.shs); peers with another key cannot connect"
    ),
    Option("hmac_key", _optional_key, "", "BASE64", "HMAC key (caps.sign) for messages of a test network; empty: none"),
    Option("hops", _whole(0, 32), 3, "N", "replicate feeds up to this distance: 0 only myself, 1 those I follow"),
    Option(
        "strangers",
        _choice("anyone", "hops", "followed"),
        "anyone",
        "anyone|hops|followed",
        "peers that may connect: anyone, those whose feed is replicated, or only those I follow",
    ),
    Option(
        "room_guests",
        _choice("mutual", "followed", "anyone"),
        "mutual",
        "mutual|followed|anyone",
        "peers that may connect through a room: those I follow and who follow me, those I follow, or anyone",
    ),
    Option("room", _title, "", "NAME", "be a room of this name, in which peers meet and reach each other; empty: none"),
    Option(
        "private_web",
        _switch,
        False,
        "",
        "let web links of rooms lead to this machine and private networks, also by http",
    ),
    Option("autoconnect", _switch, True, "", "dial peers that were not picked by hand, within the quotas"),
    Option(
        "dial_quotas",
        _quotas,
        "",
        "GROUP=N,...",
        "connections to open by itself, where not lan=2,room=2,pub=2,followed=3,stranger=1",
    ),
    Option("ws_port", _optional_port, "", "PORT", "port for peers by WebSocket; 0 picks a free one, empty: none"),
    Option(
        "socks", _proxy, "", "HOST:PORT", "SOCKS5 proxy to dial through, such as Tor at 127.0.0.1:9050; empty: none"
    ),
    Option("socks_for", _choice("onion", "all"), "onion", "onion|all", "what to dial through the SOCKS proxy"),
    Option("lan", _switch, True, "", "announce this node on the local network and look for others"),
    Option("own_pubs", _feeds, "", "IDS", "pubs of mine, with commas: one of them is enough to unlock a locked feed"),
    Option("blob_max_bytes", _whole(1, 64 * 1024 * 1024), 5 * 1024 * 1024, "N", "bytes that one blob may have"),
    Option(
        "blob_quota_mib", _whole(0, 999_999_999), 1024, "N", "MiB for blobs of others; the least used ones go first"
    ),
    Option(
        "blob_fetch",
        _choice("all", "wanted", "off"),
        "all",
        "all|wanted|off",
        "blobs to fetch: what messages name and peers ask for too, only what was asked for here, or none",
    ),
    Option("budget_mib", _whole(0, 999_999_999), 0, "N", "MiB of messages and blobs to fetch a day (UTC); 0: no limit"),
    Option("budget_peer_mib", _whole(0, 999_999_999), 0, "N", "MiB to fetch a day from one peer; 0: no limit"),
    Option(
        "budget_hops", _hop_budgets, "", "HOPS=N,...", "MiB to fetch a day of feeds at a distance, such as 2=100,3=50"
    ),
    Option("limits", _limits, "", "NAME=N,...", "bounds on what peers may cost this node, set otherwise"),
    Option(
        "retention",
        _rules,
        "",
        "RULES",
        "messages of others that need not be kept, such as hops=3 age=1y; type=vote age=90d; empty: all are kept",
    ),
    Option("log_format", _choice("text", "json"), "text", "text|json", "form of the log lines on standard error"),
    Option("log_level", _choice("debug", "info", "warning", "error"), "info", "LEVEL", "debug, info, warning or error"),
)


def named(name: str) -> Option:
    """The option called `name`; KeyError if there is none."""
    for option in OPTIONS:
        if option.name == name:
            return option
    raise KeyError(name)


def load(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Config:
    """Put the settings together. `flags` maps option names to their text, None or absent where not given.

    Raises UsageError naming the flag, variable or file that is wrong.
    """
    given = {name: text for name, text in flags.items() if text is not None}
    path = _from(named("path"), given, environ, {}, Path())
    detail_default = path.value / "config.toml"
    chosen = _from(named("config"), given, environ, {}, Path(), fallback=str(detail_default))
    table = _read_file(chosen.value, required=chosen.source is not Source.DEFAULT)
    found = [path, chosen] + [
        _from(option, given, environ, table, chosen.value) for option in OPTIONS if option.in_file
    ]
    values = {item.name: item.value for item in found}
    settings = tuple(Setting(item.name, _shown(item.value), item.source, item.detail) for item in found)
    return Config(**values, settings=settings)


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    value: Any
    source: Source
    detail: str


def _from(
    option: Option,
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    table: Mapping[str, object],
    file: Path,
    *,
    fallback: str | None = None,
) -> _Found:
    raw: object
    if option.name in flags:
        raw, source, detail = flags[option.name], Source.FLAG, option.flag
    elif environ.get(option.variable):
        raw, source, detail = environ[option.variable], Source.ENVIRONMENT, option.variable
    elif option.name in table:
        raw, source, detail = table[option.name], Source.FILE, str(file)
    else:
        raw, source, detail = option.default if fallback is None else fallback, Source.DEFAULT, ""
    try:
        return _Found(option.name, option.parse(raw), source, detail)
    except BadValue as error:
        where = f"{option.name} in {detail}" if source is Source.FILE else detail
        raise UsageError(f"{where} {error}, not {raw!r}.") from None


def _read_file(file: Path, *, required: bool) -> dict[str, object]:
    try:
        text = file.read_text(encoding="utf-8")
        table: dict[str, object] = tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        if required:
            raise UsageError(f"There is no settings file {file}; name another with --config.") from None
        return {}
    except UnicodeDecodeError:
        raise UsageError(f"The settings file {file} is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The settings file {file} is not valid TOML: {error}.") from None
    except OSError as error:
        raise UsageError(f"The settings file {file} cannot be read: {error.strerror}.") from None
    known = [option.name for option in OPTIONS if option.in_file]
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known settings are {', '.join(known)}."
            raise UsageError(f"The settings file {file} sets {name!r}, which is no setting; {hint}")
    return table


def _shown(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple) and not isinstance(value, SocksProxy):
        return ",".join(value)
    if isinstance(value, Limits):
        changed = {name: getattr(value, name) for name in ADJUSTABLE}
        value = {name: one for name, one in changed.items() if one != getattr(DEFAULT_LIMITS, name)}
    if isinstance(value, dict):
        return ",".join(f"{name}={number}" for name, number in value.items())
    return str(value) if isinstance(value, Path | SocksProxy) else value


def template() -> str:
    """The text of a fresh config.toml: every setting with its default, commented out."""
    lines = [
        "# Settings of this node. A line without # in front takes effect at the next start.",
        "# Flags (--port 8008) and the environment (SBOT_PORT=8008) go before what stands here;",
        "# `sbot config` prints each value in force and where it came from.",
        "",
    ]
    for option in OPTIONS:
        if option.in_file:
            lines += [f"# {option.help}", f"# {option.name} = {_toml(option.default)}", ""]
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)
