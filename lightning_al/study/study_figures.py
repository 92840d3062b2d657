"""All figures of a study, and the two that decide: learning curves of all arms, and gains over random labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_al.study import explaining_figures as explaining
from lightning_al.study.cost_figure import draw_cost
from lightning_al.study.drawing import (
    CONTROL,
    GREEN,
    INK,
    MUTED,
    Drawing,
    Figure,
    arm_looks,
    canvas,
    gain_of,
    limits,
    name_axes,
    name_levels,
    name_rows,
    save,
    whisker,
    whole_numbers,
)
from lightning_al.study.wording import decimals, estimate, gain_label, metric_label, number, plain, shorter, words

Report = Mapping[str, Any]


def draw_figures(report: Report, folder: Path) -> list[Figure]:
    """Draws every figure whose part was measured.

    Args:
        report: The report, as ``feasibility.json`` holds it.
        folder: Where the files go: ``<name>.png`` and ``<name>.svg``.

    Returns:
        The figures, in the order to read them. Names: ``curves``, ``curves_full_model``, ``forest``, ``cost``,
        ``variance``, ``learning_curve``, ``dataset_map``, and ``article_<metric>``.

    Raises:
        OSError: A file cannot be written.
    """
    import matplotlib.style

    with matplotlib.style.context("default"):  # whatever the user's matplotlibrc says
        return [save(drawing, folder, name) for name, drawing in _drawings(plain(report))]


def _drawings(report: Report) -> Iterator[tuple[str, Drawing]]:
    drawers: dict[str, Callable[[Report], Drawing | None]] = {
        "curves": draw_curves,
        "forest": draw_forest,
        "cost": lambda report: draw_cost(_full_model(report) or report),
        "variance": explaining.draw_variance,
        "learning_curve": explaining.draw_learning_curve,
        "dataset_map": explaining.draw_dataset_map,
    }
    for name, draw in drawers.items():
        if drawing := draw(report):
            yield name, drawing
        if name == "curves" and (full := _full_model(report)) and (drawing := draw_curves(full)):
            yield "curves_full_model", dataclasses.replace(drawing, title=f"{drawing.title}, full model")
    for metric in (report.get("legacy") or {}).get("metrics") or ():
        stem = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in metric)
        yield f"article_{stem[:60]}", explaining.draw_article(report, metric)


def _full_model(report: Report) -> Report | None:
    """The report as the full model's comparison has it, where it repeated the one of a proxy."""
    confirm = report.get("confirm")
    return {**report, **confirm, "looks": arm_looks(report)} if confirm else None


def draw_curves(report: Report) -> Drawing | None:
    """Draws the metric of each arm against the number of labels, with bands.

    Args:
        report: The report.

    Returns:
        The drawing; None where there are no curves.
    """
    curves = report.get("curves")
    if not curves or not curves["labels"]:
        return None
    labels, arms, looks = curves["labels"], curves["arms"], arm_looks(report)
    figure, (axes,) = canvas(3.5)
    for name, arm in arms.items():
        color, marker = looks[name]
        dash = "--" if name == CONTROL else "-"
        axes.fill_between(labels, arm["low"], arm["high"], color=color, alpha=0.16, linewidth=0)
        axes.plot(labels, arm["mean"], color=color, marker=marker, markersize=4, linestyle=dash, linewidth=1.8)
    target = (report.get("target") or {}).get("value")
    if target is not None:
        axes.axhline(target, color=MUTED, linewidth=1, linestyle=":")
        here = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        text = f"target {number(target, decimals(report)[1])}"
        axes.annotate(text, (0.02, target), xytext=(0, 3), size=8.5, color=MUTED, **here)
    axes.set_ylim(axes.get_ylim())
    name_levels(axes, [(shorter(name, 18), arm["mean"][-1], looks[name][0]) for name, arm in arms.items()])
    axes.set_xlim(labels[0], labels[-1])
    whole_numbers(axes.xaxis)
    name_axes(axes, "labels", metric_label(report))
    parts = [f"{name} from {_level(report, arm, 0)} to {_level(report, arm, -1)}" for name, arm in arms.items()]
    side = "above" if report["metric"].get("higher_is_better", True) else "below"
    alt = f"{metric_label(report)} from {labels[0]:,} to {labels[-1]:,} labels. {'; '.join(parts)}."
    return Drawing(
        figure,
        f"{words(report['metric']['name']).capitalize()} against labels",
        alt,
        f"A strategy is worth it where its line lies {side} the dashed grey one (labels chosen at random); bands are "
        "95 % intervals of each mean, and where they overlap look at the paired gains instead."
        + (" The dotted line is the level to which labels are counted." if target is not None else ""),
    )


def _level(report: Report, arm: Mapping[str, Any], place: int) -> str:
    return estimate(arm["mean"][place], (arm["low"][place], arm["high"][place]), decimals(report)[1])


def draw_forest(report: Report) -> Drawing | None:
    """Draws each strategy's gain with its interval, against zero and the least worthwhile gain.

    Args:
        report: The report.

    Returns:
        The drawing; None where there are no strategies.
    """
    full = _full_model(report) or {}
    named = [(each["name"], each) for each in report.get("strategies") or ()]
    named += [(f"{each['name']}, full model", each) for each in full.get("strategies") or ()]
    strategies = [{**each, "label": label} for label, each in named if each.get("delta") is not None]
    if not strategies:
        return None
    looks, delta = arm_looks(report), (report.get("settings") or {}).get("delta")
    figure, (axes,) = canvas(1.35 + 0.55 * len(strategies))
    ends = [end for each in strategies for end in (each["delta"], *(each.get("ci") or ()))]
    axes.set_xlim(*limits([0, delta, *ends]))
    axes.axvline(0, color=INK, linewidth=1.2)
    lines = [(0, "zero")]
    if delta is not None:
        axes.axvline(delta, color=GREEN, linewidth=1.4, linestyle="--")
        lines.append((delta, f"{number(delta, decimals(report)[0])} worthwhile"))
    for (where, text), side in zip(lines, ("right", "left"), strict=False):
        axes.annotate(
            text,
            (where, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if side == "right" else 3, 2),
            textcoords="offset points",
            ha=side,
            size=8.5,
            color=MUTED,
        )
    for row, each in enumerate(strategies):
        whisker(axes, row, each["delta"], each.get("ci"), *looks[each["name"]])
    gains = [gain_of(report, each) for each in strategies]
    name_rows(axes, [f"{shorter(each['label'], 26)}\n{gain}" for each, gain in zip(strategies, gains, strict=True)])
    name_axes(axes, gain_label(report))
    listed = "; ".join(f"{each['label']} {gain}" for each, gain in zip(strategies, gains, strict=True))
    line = "" if delta is None else f" The least worthwhile gain is {number(delta, decimals(report)[0])}."
    kind = "exploratory" if report.get("exploratory") else "simultaneous 95 %"
    return Drawing(
        figure,
        "Gain of each strategy over random labels",
        f"{gain_label(report).capitalize()} with {kind} intervals: {listed}.{line}",
        "A strategy surely helps where its whole whisker lies right of zero, and is worth its effort where the marker "
        "lies right of the dashed line too; a whisker wholly left of the dashed line rules a worthwhile gain out.",
    )
