"""Ctrl-C: Lightning makes an exit of it, with the code of any failure."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn

from lightning.pytorch.utilities.rank_zero import rank_zero_only

EXIT_CODE = 130
"""128 + SIGINT: what a shell says of a command that Ctrl-C ended."""


@contextlib.contextmanager
def as_keyboard_interrupt() -> Iterator[None]:
    """Make Lightning's exit after Ctrl-C a ``KeyboardInterrupt`` again.

    Raises:
        KeyboardInterrupt: The user interrupted what ran within.
    """
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def end(go_on: str) -> NoReturn:
    """End the process: one line, by one of its ranks, and no traceback.

    Args:
        go_on: What is kept, and what goes on with it.
    """
    rank_zero_only(print)(f"lightning-al: interrupted. {go_on}", file=sys.stderr)
    raise SystemExit(EXIT_CODE) from None
