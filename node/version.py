"""The version of this program, from the installed distribution; one place writes it: pyproject.toml."""

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("pysbot")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"


VERSION = _installed()
