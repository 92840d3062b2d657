"""Options and fixtures that all tests share."""

from __future__ import annotations

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills",
        type=int,
        default=5,
        metavar="N",
        help="how often tests/test_resume.py kills and resumes a run (default: 5)",
    )


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    """How many moments to kill a run at."""
    return int(request.config.getoption("--kills"))


@pytest.fixture(autouse=True)
def _one_thread_and_a_fixed_seed() -> None:
    """Small tensors are faster on one thread, and no test depends on which ran before it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
