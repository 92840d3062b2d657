"""The common look of a study's figures, with matplotlib's object API alone: no window, no pyplot state.

The colours are Okabe and Ito's, which people of every colour vision tell apart; the control is grey, and each arm has
its own marker too. Every colour stands here, so that the page can swap it for the one of its dark theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_al import durable
from lightning_al.study.wording import decimals, estimate, shorter

INK, MUTED, GRID, PAPER = "#222222", "#5f5f5f", "#dddddd", "#ffffff"
GREY = "#7a7a7a"
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
ARMS = tuple(zip((BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY) * 2, "sD^vPXpdhH*8", strict=True))
"""Colour and marker of each arm besides the control: twelve that differ in one of the two."""

WIDTH = 4.8
"""Inches: at this width, letters are still readable when the figure fills a phone's screen."""

CONTROL = "random"

LEADER = {"arrowstyle": "-", "linewidth": 2, "shrinkA": 2, "shrinkB": 0, "relpos": (0, 0.5)}
"""The line from a name to what it names."""


@dataclass(frozen=True)
class Figure:
    """A figure of a report, in files.

    Args:
        name: Stem of its files.
        title: What it shows.
        alt: The same for those who cannot see it, with the numbers.
        caption: How to read it.
        paths: The PNG and the SVG.
    """

    name: str
    title: str
    alt: str
    caption: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn, but not in files yet; see `Figure`."""

    canvas: Any
    title: str
    alt: str
    caption: str


def canvas(height: float, rows: Sequence[float] = (1,)) -> tuple[Any, list[Any]]:
    """Makes an empty figure.

    Args:
        height: In inches.
        rows: Relative heights of the panels, from top to bottom.

    Returns:
        The figure and its panels.
    """
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(WIDTH, height), facecolor=PAPER, layout="constrained")
    panels = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)
    for axes in panels[:, 0]:
        axes.set_facecolor("none")
        axes.tick_params(color=GRID, labelcolor=MUTED, labelsize=9)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GRID)
    return figure, list(panels[:, 0])


def name_axes(axes: Any, x: str = "", y: str = "") -> None:
    """Names the axes of a panel; names may hold any character.

    Args:
        axes: The panel.
        x: What the horizontal axis shows.
        y: What the vertical axis shows, written above the panel, where it reads without turning the head.
    """
    axes.set_xlabel(shorter(x, 60), size=9.5, color=MUTED, parse_math=False)
    axes.set_title(shorter(y, 48), loc="left", size=9.5, color=MUTED, parse_math=False)


def whole_numbers(axis: Any) -> None:
    """Writes counts on an axis as 1,000.

    Args:
        axis: The axis.
    """
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """Puts names at a panel's rows 0, 1, ..., the first on top, and takes the rows' grid away.

    Args:
        axes: The panel.
        names: One a row.
    """
    axes.set_yticks(range(len(names)))
    axes.set_yticklabels(names, parse_math=False, color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def whisker(axes: Any, row: float, value: float, ends: Sequence[float | None] | None, color: str, marker: str) -> None:
    """Draws an estimate with its interval; an end without bound becomes an arrow at the panel's edge.

    Args:
        axes: The panel; its horizontal limits must be set.
        row: Where, vertically.
        value: The estimate.
        ends: The interval, as for `wording.interval`.
        color: Of both.
        marker: Of the estimate.
    """
    edges = sorted(axes.get_xlim())
    low, high = ends or (None, None)
    for end, edge, arrow in ((low, edges[0], "<"), (high, edges[1], ">")):
        axes.plot([value, edge if end is None else end], [row, row], color=color, linewidth=2.4)
        tip = (edge, arrow) if end is None else (end, "|")
        axes.plot(tip[0], row, marker=tip[1], color=color, markersize=7, markeredgewidth=1.6, clip_on=False)
    axes.plot(value, row, marker=marker, color=color, markersize=8, markeredgecolor=PAPER)


def name_levels(axes: Any, levels: Sequence[tuple[str, float, str]]) -> None:
    """Writes names at the right of a panel, each led to its level; those that would cover another are moved.

    Args:
        axes: The panel; its vertical limits must be set.
        levels: Name, level and colour of each.
    """
    low, high = axes.get_ylim()
    inches = axes.get_figure().get_figheight() - 0.8  # of the panel, about
    lines = max((name.count("\n") + 1 for name, _, _ in levels), default=1)
    places = apart([level for _, level, _ in levels], 0.17 * lines / inches * (high - low))
    for (name, level, color), place in zip(levels, places, strict=True):
        axes.annotate(
            name,
            (1, level),
            xytext=(1.06, place),
            xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"),
            annotation_clip=False,
            size=9,
            va="center",
            color=INK,
            parse_math=False,
            arrowprops={**LEADER, "color": color},
        )


def limits(values: Sequence[float | None], margin: float = 0.08) -> tuple[float, float]:
    """Finds limits of an axis that hold all values.

    Args:
        values: The values; None is left out.
        margin: Free space at each end, as a share of their range.

    Returns:
        The limits.

    Examples:
        >>> limits([0, None, 10], 0.1)
        (-1.0, 11.0)
    """
    known = [float(value) for value in values if value is not None]
    low, high = min(known), max(known)
    space = margin * (high - low or 1)
    return low - space, high + space


def apart(positions: Sequence[float], gap: float, ends: tuple[float, float] | None = None) -> list[float]:
    """Moves labels as little as possible so that none covers another.

    The positions in order, less their rank times the gap, may not fall: an isotonic regression finds the nearest.

    Args:
        positions: Where they would stand.
        gap: The least distance between two.
        ends: Between which they stand, where there is room for all of them.

    Returns:
        Where they stand, in the order given.

    Examples:
        >>> apart([1.0, 5.0, 1.0], 2.0), apart([1.0, 5.0, 1.0], 2.0, (0.5, 6.0))
        ([0.0, 5.0, 2.0], [0.5, 5.0, 2.5])
    """
    import numpy as np
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(positions, kind="stable")
    ranks = gap * np.arange(len(order))
    moved = np.empty(len(order))
    low, high = (None, None) if ends is None else (ends[0], max(ends[0], ends[1] - gap * (len(order) - 1)))
    wanted = np.asarray(positions, dtype=float)[order] - ranks
    moved[order] = isotonic_regression(wanted, y_min=low, y_max=high) + ranks
    return [float(each) for each in moved]


def arm_looks(report: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Gives every arm a colour and a marker, the same in all figures.

    Args:
        report: The report, or a part of it with the looks of the whole as ``looks``.

    Returns:
        Colour and marker by name.
    """
    if "looks" in report:
        return dict(report["looks"])
    names = [each["name"] for each in report.get("strategies") or ()]
    names += [each["name"] for each in (report.get("confirm") or {}).get("strategies") or ()]
    names += (report.get("curves") or {}).get("arms", ())
    arms = [name for name in dict.fromkeys(names) if name != CONTROL]
    return {CONTROL: (GREY, "o"), **{name: ARMS[place % len(ARMS)] for place, name in enumerate(arms)}}


def gain_of(report: Mapping[str, Any], strategy: Mapping[str, Any]) -> str:
    """Writes a strategy's gain with its interval.

    Args:
        report: The report.
        strategy: An entry of its ``strategies``.

    Returns:
        The text.

    Examples:
        >>> gain_of({"metric": {"scale": 100}}, {"delta": 2.6, "ci": [1.9, 3.3]})
        '+2.60 [+1.90, +3.30]'
    """
    return estimate(strategy["delta"], strategy.get("ci"), decimals(report)[0], signed=True)


def save(drawing: Drawing, folder: Path, name: str) -> Figure:
    """Writes a drawing as PNG and SVG; the same drawing always gives the same SVG.

    Args:
        drawing: The drawing.
        folder: Where to.
        name: Stem of the files.

    Returns:
        The figure.

    Raises:
        OSError: A file cannot be written.
    """
    import matplotlib as mpl

    paths = (folder / f"{name}.png", folder / f"{name}.svg")
    drawing.canvas.draw_without_rendering()
    drawing.canvas.set_layout_engine("none")  # placed once: it would be done again for each file
    # letters as text: they can be searched, read aloud and coloured by the page, and the file is a third as large
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        for path in paths:
            with durable.replacing(path) as temporary:
                metadata = {"Date": None} if path.suffix == ".svg" else None
                drawing.canvas.savefig(temporary, format=path.suffix[1:], dpi=180, metadata=metadata)
    return Figure(name, drawing.title, drawing.alt, drawing.caption, paths)
