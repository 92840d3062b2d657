"""The figure of value against cost: what each strategy gains for its time, and what it saves in money."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_al.study.drawing import (
    BLUE,
    GREEN,
    INK,
    LEADER,
    PAPER,
    VERMILLION,
    Drawing,
    apart,
    arm_looks,
    canvas,
    gain_of,
    limits,
    name_axes,
    name_rows,
    whisker,
    whole_numbers,
)
from lightning_al.study.wording import estimate, gain_label, number, shorter

Report = Mapping[str, Any]

_LINE = 0.17
"""Inches from one name to the next."""


def draw_cost(report: Report) -> Drawing | None:
    """Draws what the strategies give for what they cost: gain against query time, and money where costs are known.

    Args:
        report: The report.

    Returns:
        The drawing; None where neither was measured.
    """
    timed = [
        each for each in report.get("strategies") or () if None not in (each.get("delta"), each.get("seconds_query"))
    ]
    cost = report.get("cost") or {}
    sums = [
        ("labels saved", cost.get("money_saved"), cost.get("money_ci"), BLUE),
        ("computing", None if cost.get("compute_cost") is None else -cost["compute_cost"], (), VERMILLION),
        ("net value", cost.get("net"), cost.get("net_ci"), GREEN),
    ]
    money = [each for each in sums if each[1] is not None]
    if not timed and not money:
        return None
    heights = [max(2.7, 0.9 + _LINE * len(timed))] * bool(timed) + [1.7] * bool(money)
    figure, panels = canvas(sum(heights), heights)
    said = []
    if timed:
        _gain_against_time(panels[0], report, timed)
        for each in timed:
            said.append(f"{each['name']} {gain_of(report, each)} for {number(each['seconds_query'], 3)} s a query")
    if money:
        _money(panels[-1], money)
        said += [_sum(name, value, ends) for name, value, ends, _ in money]
    return Drawing(
        figure,
        "Value against cost",
        "; ".join(said) + ".",
        "High and left is best: much gain for little waiting at each query."
        + (" Below, what the saved labels are worth less what the computing costs." if money else ""),
    )


def _sum(name: str, value: float | None, ends: Any) -> str:
    return f"{name} {number(value, 0)}" if ends == () else f"{name} {estimate(value, ends, 0)}"


def _gain_against_time(axes: Any, report: Report, timed: list[dict[str, Any]]) -> None:
    looks = arm_looks(report)
    low, high = limits([0, *(end for each in timed for end in (each["delta"], *(each.get("ci") or ())))])
    axes.axhline(0, color=INK, linewidth=1.2)
    seconds = [each["seconds_query"] for each in timed]
    axes.set_xlim(0, 1.08 * max(*seconds, 1e-3))
    axes.set_ylim(low, high)
    for each in timed:
        color, marker = looks[each["name"]]
        bottom, top = each.get("ci") or (None, None)
        ends = [low if bottom is None else bottom, high if top is None else top]
        axes.plot([each["seconds_query"]] * 2, ends, color=color, linewidth=2)
        axes.plot(each["seconds_query"], each["delta"], marker=marker, color=color, markersize=8, markeredgecolor=PAPER)
    name_axes(axes, "seconds a query takes", gain_label(report))
    _name_points(axes, [(shorter(each["name"], 18), each["seconds_query"], each["delta"], looks[each["name"]][0])
                        for each in timed])  # fmt: skip


def _name_points(axes: Any, points: list[tuple[str, float, float, str]]) -> None:
    """Writes names in a column right of a panel, each led to its point: none covers another, wherever points lie."""
    names = [
        axes.annotate(
            name,
            (x, y),
            xytext=(1.05, y),
            textcoords=("axes fraction", "data"),
            annotation_clip=False,
            size=9,
            va="center",
            color=INK,
            parse_math=False,
            arrowprops={**LEADER, "color": color, "linewidth": 1, "alpha": 0.6},
        )
        for name, x, y, color in points
    ]
    axes.get_figure().draw_without_rendering()  # only then is known how high the panel is
    low, high = axes.get_ylim()
    an_inch = (high - low) / (axes.get_position().height * axes.get_figure().get_figheight())
    places = apart([y for _, _, y, _ in points], _LINE * an_inch, (low, high))
    for name, place in zip(names, places, strict=True):
        name.set_y(place)


def _money(axes: Any, money: list[tuple[str, Any, Any, str]]) -> None:
    axes.set_xlim(*limits([0, *(end for _, value, ends, _ in money for end in (value, *(ends or ())))]))
    axes.axvline(0, color=INK, linewidth=1.2)
    for row, (_, value, ends, color) in enumerate(money):
        axes.barh(row, value, height=0.5, color=color, alpha=0.45)
        if ends != ():  # computing was measured as a whole: it has no interval
            whisker(axes, row, value, ends, color, "o")
    whole_numbers(axes.xaxis)
    name_rows(axes, [_sum(f"{name}\n", value, ends) for name, value, ends, _ in money])
    name_axes(axes, "money, in the currency of the costs given")
