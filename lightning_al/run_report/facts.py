"""What a run's answers say, counted: classes, who asked, what was rejected, what came late or was corrected."""

# ruff: noqa: RUF001 (the typographic apostrophe is meant)

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_al.exceptions import ActiveLearningError
from lightning_al.figures import metric_curves
from lightning_al.labeling import BY_HAND, CONTROL, INITIAL
from lightning_al.ledger import LedgerRow
from lightning_al.run_report.reading import Left

Facts = dict[str, Any]
Curve = tuple[str, list[tuple[int, float]]]

_LOWER = ("loss", "error", "rmse", "mse", "mae", "nll", "perplexity", "brier", "ece")
_ASKED_BY = {INITIAL: "first labels", BY_HAND: "by hand", CONTROL: "drawn at random (control)"}


def lower_is_better(metric: str, higher_is_better: bool | None = None) -> bool:
    """Tells whether the lowest value of a metric is its best, as far as its name says.

    Args:
        metric: The name under which it was logged.
        higher_is_better: The caller's answer, which goes first.

    Returns:
        Whether it is.

    Examples:
        >>> lower_is_better("val_loss"), lower_is_better("val/MSE"), lower_is_better("val_acc")
        (True, True, False)
    """
    if higher_is_better is not None:
        return not higher_is_better
    words = "".join(letter if letter.isalnum() else " " for letter in metric.lower()).split()
    return any(word.endswith(("loss", "error")) or word in _LOWER for word in words)


def curves_of(history: Sequence[Mapping[str, Any]], metric: str | None = None) -> list[Curve]:
    """Sorts a run's metrics, the main one first.

    Args:
        history: A mapping a round.
        metric: The main one. By default one of validation or testing that rises, where there is one.

    Returns:
        Name and points (labels, value) of each.

    Raises:
        ActiveLearningError: The run did not log that metric.

    Examples:
        >>> history = [{"labeled": 20, "metrics": {"val_loss": 2.0, "val_acc": 0.5}}]
        >>> [name for name, _ in curves_of(history)], [name for name, _ in curves_of(history, "val_loss")]
        (['val_acc', 'val_loss'], ['val_loss', 'val_acc'])
    """
    found = list(metric_curves(history).items())
    if metric is not None and metric not in dict(found):
        there = f"it logged {', '.join(name for name, _ in found)}" if found else "it has logged none yet"
        raise ActiveLearningError(f"Expected `metric` to be one that the run logged, but got {metric!r}; {there}.")
    return sorted(found, key=lambda each: (each[0] != metric, each[0].startswith("train"), lower_is_better(each[0])))


def asked_by(strategy: str) -> str:
    """Says in words who asked for a sample, from the ledger's ``strategy``."""
    return _ASKED_BY.get(strategy, strategy)


def answer_of(row: LedgerRow, classes: Sequence[str] | None) -> str:
    """Says in words what was answered.

    Args:
        row: The answer.
        classes: Names of the classes by index; None where they have none.

    Returns:
        The words.

    Examples:
        >>> row = LedgerRow(7, 1, "Margin", 0.5, "1", "")
        >>> answer_of(row, ["crop", "weed"]), answer_of(row, None)
        ('weed', '1')
    """
    if row.rejected:
        return "rejected"
    if row.answer == "":
        return "the dataset’s own target"
    return class_of(row.label, classes) or json.dumps(row.label, ensure_ascii=False)


def class_of(label: Any, classes: Sequence[str] | None) -> str | None:
    """Names the class of a label.

    Args:
        label: The label.
        classes: Names of the classes by index; None where they have none.

    Returns:
        Its class; None where it is no single class (a list, boxes, a measure).
    """
    if isinstance(label, int) and not isinstance(label, bool):
        return str(classes[label]) if classes and 0 <= label < len(classes) else str(label)
    return str(label) if isinstance(label, (str, bool)) else None


def counts_of(left: Left) -> Facts:
    """Counts the samples of the pool by where they stand."""
    rejected = sum(each.row.rejected for each in left.now.standing.values())
    waiting = sum(map(len, left.now.waiting.values()))
    size, answers = int(left.now.info.get("pool_size", 0)), len(left.now.standing)
    counts = {"labeled": answers - rejected, "rejected": rejected, "waiting": waiting, "size": size}
    return {**counts, "unlabeled": max(0, size - answers - waiting)}


def classes_of(left: Left) -> Facts:
    """Counts labeled samples by class, all of them and those that were drawn at random.

    Returns:
        ``rows``: of each class ``name``, ``labeled`` and ``control``, in the order of the run's classes, else the most
        frequent first; ``own``: labels that only the dataset knows; ``other``: labels that are no single class;
        ``control``: labels drawn at random of which the class is known.
    """
    names = left.now.info.get("classes")
    labeled: Counter[str] = Counter({str(name): 0 for name in names or ()})
    control: Counter[str] = Counter()
    own = other = 0
    for each in left.now.standing.values():
        if each.row.rejected:
            continue
        name = None if each.row.answer == "" else class_of(each.row.label, names)
        if name is None:
            own, other = own + (each.row.answer == ""), other + (each.row.answer != "")
            continue
        labeled[name] += 1
        control[name] += each.row.strategy == CONTROL
    order = list(labeled) if names else [name for name, _ in labeled.most_common()]
    rows = [{"name": name, "labeled": labeled[name], "control": control[name]} for name in order]
    known = labeled.total() > 0
    return {"rows": rows if known else [], "own": own, "other": other, "control": control.total()}


def askers_of(left: Left) -> list[Facts]:
    """Counts answers by who asked, and what each still waits for."""
    by: dict[str, Facts] = {}

    def count(strategy: str, what: str) -> None:
        empty = {"name": asked_by(strategy), "labeled": 0, "rejected": 0, "waiting": 0, "control": strategy == CONTROL}
        by.setdefault(strategy, empty)[what] += 1

    for each in left.now.standing.values():
        count(each.row.strategy, "rejected" if each.row.rejected else "labeled")
    for asked, indices in left.now.waiting.items():
        query = left.now.queries[asked]
        for index in indices:
            count(CONTROL if index in query.control else query.strategy, "waiting")
    return list(by.values())


def changes_of(left: Left) -> Facts:
    """Lists answers that came after their round had begun to train, and answers that took another one's place.

    Returns:
        ``late`` and ``corrected``: of each ``index``, ``asked`` (the round that asked), ``round`` (the first that
        trains on it), ``answer``, ``before``, ``time``.
    """
    names, asked_in = left.now.info.get("classes"), left.asked_in
    before: dict[int, LedgerRow] = {}
    late, corrected = [], []
    for row in left.rows:
        index, old = row.dataset_index, before.get(row.dataset_index)
        told = {
            "index": index,
            "asked": asked_in.get(index),
            "round": row.round,
            "answer": answer_of(row, names),
            "before": "" if old is None else answer_of(old, names),
            "time": row.time,
        }
        if old is not None and old.answer != row.answer:
            corrected.append(told)
        elif old is None and asked_in.get(index, row.round) < row.round:
            late.append(told)
        before[index] = row
    return {"late": late, "corrected": corrected}


def rejections_of(left: Left) -> list[Facts]:
    """Lists the samples that are rejected: ``index``, ``round``, ``by``, ``path``, ``time``."""
    paths = left.now.paths
    return [
        {
            "index": index,
            "round": each.since,
            "by": asked_by(each.row.strategy),
            "path": paths.get(index, ""),
            "time": each.row.time,
        }
        for index, each in left.now.standing.items()
        if each.row.rejected
    ]


def waiting_of(left: Left) -> list[Facts]:
    """Lists the queries that wait for answers: ``round``, ``part``, ``count``, ``table``, ``late``."""
    return [
        {
            "round": asked[0],
            "part": asked[1],
            "count": len(indices),
            "table": f"queries/{left.now.folder.query_path(*asked).name}",
            "late": asked[0] < left.now.answers_for,
        }
        for asked, indices in left.now.waiting.items()
    ]
