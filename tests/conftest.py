"""Options and fixtures that all tests share."""

from __future__ import annotations

import os
import signal

import pytest
import torch

# The processes that tests start inherit both. One thread: equal sums in each. And a shell that runs the tests in its
# background makes them ignore Ctrl-C, which some of them send.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills",
        type=int,
        default=5,
        metavar="N",
        help="how often tests/test_resume.py kills and resumes a run (default: 5)",
    )
    parser.addoption(
        "--label-studio",
        action="store_true",
        help="install a Label Studio server into ~/.cache/lightning_al (1 GB, once) and test against it",
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
