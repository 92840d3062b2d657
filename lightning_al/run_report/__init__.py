"""The page of a run: how far it is, what its labels bought, what it asked for, and why it ended."""

from lightning_al.run_report.page import write_run_page
from lightning_al.run_report.reading import Left, read_run

__all__ = ["Left", "read_run", "write_run_page"]
