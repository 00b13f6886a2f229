"""Settings: precedence, refusals that name the culprit, the commented file."""

import base64
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from node import config
from node.config import OPTIONS, Source
from node.errors import UsageError
from replication.limits import DEFAULT_LIMITS
from replication.socks import SocksProxy


def source_of(found: config.Config, name: str) -> Source:
    return next(item.source for item in found.settings if item.name == name)


def test_defaults_are_the_promised_ones(tmp_path: Path) -> None:
    found = config.load({"path": str(tmp_path)}, {})
    assert (found.port, found.http_host, found.http_port, found.hops) == (8008, "127.0.0.1", 8989, 3)
    assert found.hmac_key is None
    assert found.network_key.hex() == "d4a1cb88a66f02f8db635ce26441cc5dac1b08420ceaac230839b755845a9ffb"
    assert found.config == tmp_path / "config.toml"


def test_the_default_folder_is_our_own_and_not_the_old_sbots() -> None:
    assert config.load({}, {}).path == Path.home() / ".pysbot"
    assert config.load({}, {"SBOT_PATH": "/somewhere"}).path == Path("/somewhere")


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("port = 1\nhops = 1\nlog_level = 'error'\n")
    environ = {"SBOT_PORT": "2", "SBOT_HOPS": "2", "SBOT_PATH": str(tmp_path)}
    found = config.load({"port": "3", "host": None}, environ)
    assert (found.port, found.hops, found.log_level, found.http_port) == (3, 2, "error", 8989)
    assert [source_of(found, name) for name in ("port", "hops", "log_level", "http_port", "path")] == [
        Source.FLAG,
        Source.ENVIRONMENT,
        Source.FILE,
        Source.DEFAULT,
        Source.ENVIRONMENT,
    ]


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    assert config.load({"path": str(tmp_path)}, {"SBOT_PORT": ""}).port == 8008


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "65536"),
        ("port", "-1"),
        ("port", "eight"),
        ("port", "٣"),
        ("hops", "1.5"),
        ("network_key", "AAAA"),
        ("network_key", base64.b64encode(bytes(31)).decode()),
        ("network_key", base64.urlsafe_b64encode(b"\xff" * 32).decode()),
        ("network_key", base64.b64encode(bytes(32)).decode().replace("AAA=", "AAB=")),
        ("hmac_key", "x"),
        ("lan", "maybe"),
        ("log_format", "xml"),
        ("log_level", "loud"),
        ("host", " "),
        ("budget_mib", "-1"),
        ("budget_hops", "2"),
        ("budget_hops", "0=1"),
        ("budget_hops", "2=1,2=2"),
    ],
)
def test_a_wrong_value_names_its_flag_variable_or_file(tmp_path: Path, name: str, text: str) -> None:
    option = config.named(name)
    base = {"path": str(tmp_path)}
    with pytest.raises(UsageError, match=option.flag):
        config.load({**base, name: text}, {})
    with pytest.raises(UsageError, match=option.variable):
        config.load(base, {option.variable: text})
    (tmp_path / "config.toml").write_text(f'{name} = "{text}"\n')
    with pytest.raises(UsageError, match=r"config\.toml"):
        config.load(base, {})


def test_an_unknown_setting_in_the_file_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("prot = 1\n")
    with pytest.raises(UsageError, match="did you mean port"):
        config.load({"path": str(tmp_path)}, {})


@pytest.mark.parametrize("data", [b"port = ", b"\xff\xfe", b"port = true", b"lan = 1"])
def test_a_broken_file_is_a_usage_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "config.toml").write_bytes(data)
    with pytest.raises(UsageError):
        config.load({"path": str(tmp_path)}, {})


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no settings file"):
        config.load({"path": str(tmp_path), "config": str(tmp_path / "none.toml")}, {})


def test_the_template_changes_nothing_until_a_line_is_uncommented(tmp_path: Path) -> None:
    text = config.template()
    assert tomllib.loads(text) == {}
    live = "\n".join(line[2:] if " = " in line and line.startswith("# ") else line for line in text.splitlines()[4:])
    (tmp_path / "config.toml").write_text(live)
    path = {"path": str(tmp_path)}
    uncommented = config.load(path, {})
    names = [option.name for option in OPTIONS if option.in_file]
    assert [source_of(uncommented, name) for name in names] == [Source.FILE] * len(names)
    (tmp_path / "config.toml").unlink()
    default = config.load(path, {})
    assert [getattr(uncommented, name) for name in names] == [getattr(default, name) for name in names]


@pytest.mark.parametrize(
    ("text", "quotas"), [("", {}), ("pub=3", {"pub": 3}), (" lan = 0 , stranger=10,", {"lan": 0, "stranger": 10})]
)
def test_quotas_by_group(tmp_path: Path, text: str, quotas: dict[str, int]) -> None:
    found = config.load({"path": str(tmp_path), "dial_quotas": text}, {})
    assert found.dial_quotas == quotas
    shown = next(setting.value for setting in found.settings if setting.name == "dial_quotas")
    assert shown == ",".join(f"{name}={number}" for name, number in quotas.items())


@pytest.mark.parametrize("text", ["pub", "pub=x", "pub=-1", "pub=11", "friends=1", "pub=1,pub=2", "pub=1;lan=2", "=1"])
def test_quotas_that_make_no_sense(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"--dial-quotas must be like pub=2,lan=1"):
        config.load({"path": str(tmp_path), "dial_quotas": text}, {})


def test_websockets_and_the_socks_proxy(tmp_path: Path) -> None:
    found = config.load({"path": str(tmp_path)}, {})
    assert (found.ws_port, found.socks, found.socks_for) == (None, None, "onion")
    given = {"path": str(tmp_path), "ws_port": "0", "socks": "[::1]:9050", "socks_for": "ALL"}
    found = config.load(given, {})
    assert (found.ws_port, found.socks, found.socks_for) == (0, SocksProxy("::1", 9050), "all")
    assert "[::1]:9050" in [setting.value for setting in found.settings]
    for wrong in ({"ws_port": "65536"}, {"socks": "9050"}, {"socks_for": "tor"}):
        with pytest.raises(UsageError, match="must be"):
            config.load({"path": str(tmp_path), **wrong}, {})


def test_limits_by_name_as_text_or_as_a_table(tmp_path: Path) -> None:
    found = config.load({"path": str(tmp_path), "limits": " inbound = 3, handshake_timeout=5,"}, {})
    assert (found.limits.inbound, found.limits.handshake_timeout) == (3, 5)
    assert found.limits == replace(DEFAULT_LIMITS, inbound=3, handshake_timeout=5)
    shown = next(setting.value for setting in found.settings if setting.name == "limits")
    assert shown == "handshake_timeout=5,inbound=3"
    (tmp_path / "config.toml").write_text("port = 1\n[limits]\noutbound_high = 4000\n")
    found = config.load({"path": str(tmp_path)}, {})
    assert (found.port, found.limits.outbound_high, found.limits.outbound_low) == (1, 4000, 1000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("inbound", "gives inbound a value that must be a whole number from 1 to 100000"),
        ("inbound=0", "gives inbound a value that"),
        ("inbound=1.5", "gives inbound a value that"),
        ("json_frame=1000", "from 65536 to 65536000"),
        ("inbuond=1", "names inbuond, which is no limit; did you mean inbound?"),
        ("blob_piece=1", "which is no limit"),
        ("inbound=1,inbound=2", "must name each limit once"),
    ],
)
def test_limits_that_make_no_sense(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        config.load({"path": str(tmp_path), "limits": text}, {})
