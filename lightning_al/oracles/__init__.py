"""Oracles: who answers a query."""

from __future__ import annotations

from lightning_al.oracles.base import Answers, Oracle, Query
from lightning_al.oracles.dataset import DatasetOracle
from lightning_al.oracles.file import FileOracle
from lightning_al.oracles.label_studio import LabelStudioOracle

__all__ = ["Answers", "DatasetOracle", "FileOracle", "LabelStudioOracle", "Oracle", "Query"]
