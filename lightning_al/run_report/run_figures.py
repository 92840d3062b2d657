"""The figures of a run: each metric against labels, and the classes among the labels."""

# ruff: noqa: RUF001 (the typographic apostrophe is meant)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_al.run_report.facts import Curve, Facts, lower_is_better
from lightning_al.run_report.telling import best_of, level
from lightning_al.study.drawing import (
    BLUE,
    INK,
    PAPER,
    Drawing,
    Figure,
    canvas,
    limits,
    name_axes,
    name_rows,
    save,
    whisker,
    whole_numbers,
)
from lightning_al.study.wording import number, shorter

MAX_METRICS = 8
"""More are not drawn: they are all in rounds.csv."""

MAX_CLASSES = 30
"""More are not drawn: the table has them all."""

_ONE_RUN = "One run, so no interval is shown: another seed may give another line."


def draw_figures(facts: Facts, folder: Path) -> dict[str, list[Figure]]:
    """Draws what the page shows.

    Args:
        facts: What the page shows: see `page.facts_of`.
        folder: Where the files go.

    Returns:
        The figures ``metrics``, the main one first, and ``classes``.

    Raises:
        OSError: A file cannot be written.
    """
    import matplotlib.style

    with matplotlib.style.context("default"):  # whatever the user's matplotlibrc says
        metrics = [save(drawing, folder, f"metric-{place}") for place, drawing in enumerate(_metrics(facts))]
        classes = [save(drawing, folder, "class-shares") for drawing in _classes(facts)]
    return {"metrics": metrics, "classes": classes}


def _metrics(facts: Facts) -> Iterator[Drawing]:
    for place, curve in enumerate(facts["curves"][:MAX_METRICS]):
        yield _metric(curve, facts["lower"] if place == 0 else lower_is_better(curve[0]), main=place == 0)


def _metric(curve: Curve, lower: bool, main: bool) -> Drawing:
    name, points = curve
    labels, values = zip(*points, strict=True)
    figure, (axes,) = canvas(3)
    marker = "o" if len(points) <= 40 else None  # of hundreds none could be told from the next
    axes.plot(labels, values, color=BLUE, linewidth=1.8, marker=marker, markersize=4)
    axes.set_xlim(*limits([0, *labels], 0.04))
    low, high = limits(values, 0.15)
    if min(values) >= 0:  # no margin below a loss of 0, and little above an accuracy of 1
        low, high = max(low, 0), min(high, 1.04) if max(values) <= 1 else high
    axes.set_ylim(low, high)
    at, best = best_of(curve, lower)
    side = "lowest" if lower else "highest"
    named = {labels[-1]: values[-1]}
    if labels[-1] - at > 0.15 * labels[-1]:  # nearer, the two numbers would cover each other
        named[at] = best
    for where, value in named.items():
        axes.plot(where, value, "o", color=BLUE, markersize=7, markeredgecolor=PAPER)
        # on the side that the line does not come from
        below = lower if where == at else values[-1] < values[-2]
        style = {"textcoords": "offset points", "ha": "right", "size": 9, "color": INK, "parse_math": False}
        axes.annotate(level(value), (where, value), xytext=(3, -14 if below else 8), **style)
    whole_numbers(axes.xaxis)
    name_axes(axes, "labels", name)
    alt = f"{name}: {level(values[0])} with {labels[0]:,} labels"
    if len(points) > 1:
        alt += f", {level(values[-1])} with {labels[-1]:,}; the {side} of {len(points)} rounds is {level(best)}, "
        alt += f"with {at:,}"
    return Drawing(figure, f"{name} against labels", f"{alt}.", f"{alt}. {_ONE_RUN}" if main else f"{alt}.")


def _classes(facts: Facts) -> Iterator[Drawing]:
    rows = facts["classes"]["rows"][:MAX_CLASSES]
    if len(rows) < 2:
        return
    figure, (axes,) = canvas(1.1 + 0.26 * len(rows))
    for place, row in enumerate(rows):
        axes.barh(place, 100 * row["share"], height=0.62, color=BLUE)
    drawn = [row for row in rows if row["control_share"] is not None]
    ends = [100 * end for row in drawn for end in row["control_ci"]]
    axes.set_xlim(0, min(100, 1.06 * max([100 * row["share"] for row in rows] + ends)))
    for place, row in enumerate(rows):
        if row["control_share"] is not None:
            low, high = (100 * end for end in row["control_ci"])
            whisker(axes, place, 100 * row["control_share"], (low, high), INK, "o")
    name_rows(axes, [f"{shorter(row['name'], 24)}  {row['labeled']:,}" for row in rows])
    name_axes(axes, "percent of the labels")
    listed = "; ".join(f"{row['name']} {row['labeled']:,} ({number(100 * row['share'], 0)} %)" for row in rows)
    yield Drawing(
        figure,
        "Classes among the labels",
        f"Labels of each class: {listed}.",
        "Bars: labels of each class."
        + (
            " Lines: the share among samples drawn at random from what was unlabeled then, with its 95 % interval: the "
            "only look at the pool’s own balance. A bar past its line is a class that was asked for more often."
            if drawn
            else " No class of the unlabeled pool is known: nothing was drawn at random to tell."
        ),
    )
