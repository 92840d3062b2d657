"""What can go wrong, by name: every message says what is wrong, the value, and the line to change."""

from __future__ import annotations


class ActiveLearningError(Exception):
    """Base of all errors of this package that are not wrong arguments (those are ``ValueError``)."""


class PoolError(ActiveLearningError, ValueError):
    """An index that is not where it should be: out of range, labeled twice, not in the pool."""


class ScoringError(ActiveLearningError, ValueError):
    """The model's outputs cannot be scored: wrong shape, integers, NaN. The pool is as before."""


class LedgerError(ActiveLearningError, RuntimeError):
    """The ledger was changed, cut or belongs to another run. Nothing was written."""


class RunFolderError(ActiveLearningError, RuntimeError):
    """The run's folder holds something that contradicts this run."""


class ResumeError(ActiveLearningError, RuntimeError):
    """A checkpoint, the pool and the ledger do not belong together, so that going on would lose or repeat labels."""


class AnswersError(ActiveLearningError, ValueError):
    """Answers from outside that cannot be taken: the message names the rows. None of them was taken."""
