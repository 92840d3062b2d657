"""Oracles: who answers a query."""

from __future__ import annotations

from lightning_al.oracles.base import Answers, Oracle, Query
from lightning_al.oracles.dataset import DatasetOracle
from lightning_al.oracles.file import FileOracle

__all__ = ["Answers", "DatasetOracle", "FileOracle", "Oracle", "Query"]
