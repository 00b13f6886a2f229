"""The pages for users, held against the code: every command, setting and link, and the example of the library."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from node.commands.catalogue import COMMANDS
from node.config import OPTIONS
from replication.limits import ADJUSTABLE, DEFAULT_LIMITS

PROJECT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CHANGELOG.md", "docs/cli.md", "docs/configuration.md", "docs/limits.md")


def page(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def test_every_command_is_described_and_every_described_one_exists() -> None:
    text = page("docs/cli.md")
    rows = [line.split("|")[1] for line in text.replace(r"\|", "/").splitlines() if line.startswith("| `")]
    described = {name for row in rows for name in re.findall(r"`([A-Za-z.]+)", row)}
    assert described == {name for command in COMMANDS for name in (command.name, *command.aliases)}


def test_every_setting_is_described_with_its_flag_variable_and_name() -> None:
    rows = [line for line in page("docs/configuration.md").splitlines() if line.startswith("| `--")]
    assert len(rows) == len(OPTIONS)
    for option, row in zip(OPTIONS, rows, strict=True):
        _, flag, variable, name, *_ = [cell.strip() for cell in row.split("|")]
        assert flag.startswith(f"`{option.flag}")
        assert variable == f"`{option.variable}`"
        assert name == (f"`{option.name}`" if option.in_file else "–")


def test_every_limit_is_described_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page("docs/limits.md"), re.MULTILINE)
    assert {name: text.strip() for name, text in rows} == {
        name: f"{getattr(DEFAULT_LIMITS, name):g}" if getattr(DEFAULT_LIMITS, name) < 100_000 else shown(name)
        for name in ADJUSTABLE
    }


def shown(name: str) -> str:
    size = int(getattr(DEFAULT_LIMITS, name))
    return f"{size // 1024} KiB"


@pytest.mark.parametrize("name", PAGES)
def test_links_between_pages_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page(name)):
        assert target.startswith("https://") or (PROJECT / name).parent.joinpath(target).exists(), target


def test_the_readme_names_only_commands_that_exist() -> None:
    known = {name for command in COMMANDS for name in (command.name, *command.aliases)}
    named = re.findall(r"^ {4}(?:host-[ab]\$ )?sbot ([a-z.A-Z]+)(?: ([a-z]+))?", page("README.md"), re.MULTILINE)
    assert len(named) >= 6
    for first, second in named:  # `key words` is key.words
        assert first in known or f"{first}.{second}" in known


def test_the_library_example_of_the_readme_runs_as_it_stands() -> None:
    examples = re.findall(r"```python\n(.*?)```", page("README.md"), re.DOTALL)
    (example,) = [one for one in examples if "secret_stream" in one]
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert re.fullmatch(rb"b'hello @[A-Za-z0-9+/]{43}=\.ed25519'\n", done.stdout)
    assert done.stderr == b""


def test_the_two_commands_of_the_readme_are_in_the_makefile() -> None:
    makefile = page("Makefile")
    for target in re.findall(r"^ {4}make ([a-z]+)", page("README.md"), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
