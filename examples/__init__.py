"""Runnable examples, each with its config, its README and what it shows."""

from __future__ import annotations

from lightning_al.exceptions import ActiveLearningError


class DataError(ActiveLearningError, ValueError):
    """A file is not where, or not as, an example expects it. The command line shows its message, no traceback."""
