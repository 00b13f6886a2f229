"""One HTTP side a test, or one a module for tests that only look at answers and leave nothing behind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.api import Api, open_api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """For tests marked `asyncio(loop_scope="module")`."""
    async with open_api(tmp_path_factory.mktemp("shared")) as opened:
        yield opened
