"""The figures that explain: what makes the spread, what more labels give, easy and hard samples, the article."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_al.study.drawing import (
    ARMS,
    BLUE,
    GREEN,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    VERMILLION,
    Drawing,
    canvas,
    limits,
    name_axes,
    name_levels,
    name_rows,
    whisker,
    whole_numbers,
)
from lightning_al.study.wording import NOISELESS, decimals, estimate, metric_label, number, share, words

Report = Mapping[str, Any]

HARD, EASY = 1 / 3, 2 / 3
"""A sample is called hard where fewer epochs than this got it right, and easy where more than this did."""


def draw_variance(report: Report) -> Drawing | None:
    """Draws which share of the spread comes from the data and which from the training seed.

    Args:
        report: The report.

    Returns:
        The drawing, without those shares where the fits have no training noise; None where the random design was not
        run.
    """
    variance = report.get("variance")
    if not variance:
        return None
    by_fraction = [each for each in variance.get("by_fraction") or () if each.get("values")]
    if variance.get("icc") is None:
        return _draw_spread(report, by_fraction) if by_fraction else None
    figure, panels = canvas(1.6 + 2.9 * bool(by_fraction), [1.3, 2.9][: 1 + bool(by_fraction)])
    low, high = variance.get("icc_ci") or (None, None)
    flipped = (None if high is None else 1 - high, None if low is None else 1 - low)
    bars = [
        ("which data", variance["icc"], (low, high), variance["sigma_data"], BLUE),
        ("training seed", 1 - variance["icc"], flipped, variance["sigma_training"], GREY),
    ]
    axes = panels[0]
    axes.set_xlim(0, 100)
    for row, (_, part, ends, _, color) in enumerate(bars):
        axes.barh(row, 100 * part, height=0.55, color=color, alpha=0.45)
        percents = [None if end is None else min(100.0, max(0.0, 100 * end)) for end in ends]
        whisker(axes, row, 100 * part, percents, color, "o")
    name_rows(axes, [f"{name}: {share(part, ends)}" for name, part, ends, _, _ in bars])
    name_axes(axes, "", "share of the variance between fits (%)")
    if by_fraction:
        _spread(panels[1], report, by_fraction)
    digits, unit = decimals(report)[0], report["metric"].get("unit") or ""
    parts = "; ".join(
        f"{name} {share(part, ends)} of the variance, standard deviation {number(sigma, digits)} {unit}".rstrip()
        for name, part, ends, sigma, _ in bars
    )
    return Drawing(
        figure,
        "What makes results differ",
        f"{parts}.",
        "Where the blue bar is long, it matters which data are labeled; where the grey one is long, results differ "
        "mostly by chance of the training. Below, each column is one bucket of data and each dot one training seed.",
    )


def _draw_spread(report: Report, by_fraction: Sequence[Mapping[str, Any]]) -> Drawing:
    """Of fits without training noise, the spread over buckets alone."""
    figure, (axes,) = canvas(2.9)
    _spread(axes, report, by_fraction)
    digits, unit = decimals(report)[0], report["metric"].get("unit") or ""
    data = f"which data: standard deviation {number(report['variance'].get('sigma_data'), digits)} {unit}".rstrip()
    return Drawing(
        figure,
        "What makes results differ",
        f"{data}; training seed {NOISELESS}.",
        "Each dot is one bucket of data: where the dots lie far apart, it matters which data are labeled. What the "
        f"training seed adds is {NOISELESS}.",
    )


def _spread(axes: Any, report: Report, by_fraction: Sequence[Mapping[str, Any]]) -> None:
    """One group a fraction, in it one column a bucket, in it one dot a seed; the group's mean with its interval."""
    for place, each in enumerate(by_fraction):
        buckets = each["values"]
        for bucket, values in enumerate(buckets):
            x = place + 0.62 * ((bucket + 0.5) / len(buckets) - 0.5)
            seen = [value for value in values if value is not None]
            if not seen:
                continue
            axes.plot([x, x], [min(seen), max(seen)], color=GREY, linewidth=1.2)
            axes.plot([x] * len(seen), seen, linestyle="", marker="o", markersize=3.6, color=BLUE, alpha=0.8)
        low, high = each.get("ci") or (None, None)
        if low is not None and high is not None:
            axes.fill_between([place - 0.42, place + 0.42], low, high, color=ORANGE, alpha=0.25, linewidth=0)
        if each.get("mean") is not None:
            axes.plot([place - 0.42, place + 0.42], [each["mean"]] * 2, color=ORANGE, linewidth=2)
    texts = [f"{number(each['labels'], 0)}\n({100 * each['fraction']:.0f} %)" for each in by_fraction]
    axes.set_xticks(range(len(by_fraction)), texts)
    axes.grid(visible=False, axis="x")
    name_axes(axes, "labels (a share of each bucket)", metric_label(report))


def draw_learning_curve(report: Report) -> Drawing | None:
    """Draws the curve fitted to the random design, with what was measured and the headroom.

    Args:
        report: The report.

    Returns:
        The drawing; None where no curve was fitted.
    """
    curve = report.get("curve")
    if not curve or not curve.get("points"):
        return None
    figure, (axes,) = canvas(3.2)
    fit, points, digits = curve.get("fit") or [], curve["points"], decimals(report)[1]
    if fit:
        x = [each["labels"] for each in fit]
        axes.fill_between(
            x, [each["low"] for each in fit], [each["high"] for each in fit], color=BLUE, alpha=0.18, linewidth=0
        )
        axes.plot(x, [each["mean"] for each in fit], color=BLUE, linewidth=1.8)
    for each in points:
        axes.plot([each["labels"]] * 2, [each["low"], each["high"]], color=INK, linewidth=1.6)
        axes.plot(each["labels"], each["mean"], marker="o", color=INK, markersize=6, markeredgecolor=PAPER)
    said = [f"{each['labels']:,} labels {estimate(each['mean'], _ends(each), digits)}" for each in points]
    headroom = report.get("headroom") or {}
    if headroom.get("value") is not None:
        _headroom(axes, headroom, digits)
        said.append(f"headroom {estimate(headroom['value'], headroom.get('ci'), digits, signed=True)}")
    whole_numbers(axes.xaxis)
    name_axes(axes, "labels, chosen at random", metric_label(report))
    return Drawing(
        figure,
        "What more random labels give",
        f"{metric_label(report)} by labels: {'; '.join(said)}.",
        "Dots are measured (whiskers: 95 % over buckets and seeds) and the band is the fitted curve; a curve that "
        "still improves at its right end says that more labels pay, whoever chooses them."
        + (" The headroom is what the whole pilot gains over the first labels." if headroom else ""),
    )


def _ends(each: Mapping[str, Any]) -> tuple[Any, Any]:
    return each["low"], each["high"]


def _headroom(axes: Any, headroom: Mapping[str, Any], digits: int) -> None:
    for level in (headroom.get("initial"), headroom.get("all")):
        if level is not None:
            axes.axhline(level, color=GREEN, linewidth=1.2, linestyle="--")
    if headroom.get("initial") is None or headroom.get("all") is None:
        return
    text = f"headroom\n{estimate(headroom['value'], headroom.get('ci'), digits, signed=True)}"
    right = {"xycoords": ("axes fraction", "data"), "textcoords": ("axes fraction", "data"), "annotation_clip": False}
    arrow = {"arrowstyle": "<->", "color": GREEN, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (1.0, headroom["all"]), xytext=(1.0, headroom["initial"]), arrowprops=arrow, **right)
    middle = (headroom["initial"] + headroom["all"]) / 2
    axes.annotate(text, (0.98, middle), xytext=(0.98, middle), size=9, color=INK, ha="right", va="center", **right)


def draw_dataset_map(report: Report) -> Drawing | None:
    """Draws each sample by how sure and how steady the model was of its label over the epochs.

    Args:
        report: The report.

    Returns:
        The drawing; None where there is no map.

    References:
        Swayamdipta et al. 2020, Dataset Cartography.
    """
    samples = (report.get("pathology") or {}).get("dataset_map")
    if not samples or not samples["confidence"]:
        return None
    groups: dict[str, list[tuple[float, float]]] = {"easy": [], "ambiguous": [], "hard": []}
    rows = zip(samples["variability"], samples["confidence"], samples["correctness"], strict=True)
    for variability, confidence, correctness in rows:
        kind = "hard" if correctness < HARD else "easy" if correctness > EASY else "ambiguous"
        groups[kind].append((variability, confidence))
    count = len(samples["confidence"])
    figure, (axes,) = canvas(3.7)
    for (kind, points), (color, marker) in zip(
        groups.items(), ((BLUE, "o"), (ORANGE, "s"), (VERMILLION, "^")), strict=True
    ):
        x, y = zip(*points, strict=True) if points else ((), ())
        label = f"{kind} {100 * len(points) / count:.0f} %"
        axes.plot(x, y, linestyle="", marker=marker, markersize=3.4, color=color, alpha=0.55, label=label)
        axes.lines[-1].set_markeredgewidth(0)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(left=-0.01)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=9, labelcolor=INK, markerscale=2,
        handletextpad=0.1, columnspacing=1.2, borderaxespad=0,
    )  # fmt: skip
    name_axes(axes, "variability of that probability over the epochs")
    axes.set_ylabel("mean probability of the given label", size=9.5, color=MUTED)
    shares = ", ".join(f"{kind} {100 * len(points) / count:.0f} %" for kind, points in groups.items())
    return Drawing(
        figure,
        "Easy, ambiguous and hard samples",
        f"Dataset map of {count:,} samples: {shares}. Easy: right in more than two thirds of the epochs; hard: in "
        "fewer than a third.",
        "Samples at the top left are learned at once and teach little; those at the right are where labels help; those "
        "at the bottom left are never learned, often because their label is wrong or the picture is junk.",
    )


def draw_article(report: Report, metric: str) -> Drawing:
    """Draws the article's plot of one metric: its spread over the buckets at each fraction.

    Args:
        report: The report, with a ``legacy`` part.
        metric: The metric.

    Returns:
        The drawing.
    """
    part = report["legacy"]["metrics"][metric]
    figure, (axes,) = canvas(3.0)
    said, digits = [], 1  # the article's metrics are told in points, whatever decides here
    for place, (fraction, values) in enumerate(zip(part["fractions"], part["values"], strict=True)):
        seen = [value for value in values if value is not None]
        if not seen:
            continue
        axes.plot([place, place], [min(seen), max(seen)], color=GREY, linewidth=7, alpha=0.35, solid_capstyle="round")
        for bucket, value in enumerate(values):
            if value is not None:
                color, marker = ARMS[bucket % len(ARMS)]
                x = place + 0.09 * (bucket - (len(values) - 1) / 2)
                axes.plot(x, value, marker=marker, color=color, markersize=5)
        said.append(f"{100 * fraction:.0f} %: {number(min(seen), digits)} to {number(max(seen), digits)}")
    best, worst = part.get("best_20"), part.get("worst_80")
    axes.set_ylim(*limits([value for values in part["values"] for value in values] + [best, worst], 0.12))
    levels = [("best at 20 %", best), ("worst at 80 %", worst)]
    known = [(f"{name}\n{number(level, digits)}", level, MUTED) for name, level in levels if level is not None]
    for _, level, color in known:
        axes.axhline(level, color=color, linewidth=1, linestyle=":")
    name_levels(axes, known)
    axes.set_xlim(-0.5, len(part["fractions"]) - 0.5)
    axes.set_xticks(range(len(part["fractions"])), [f"{100 * fraction:.0f} %" for fraction in part["fractions"]])
    axes.grid(visible=False, axis="x")
    name_axes(axes, "share of each bucket that was labeled", f"{words(metric)} (points)")
    fires = "holds" if part.get("rule") else "does not hold"
    return Drawing(
        figure,
        f"The article's plot: {words(metric)}",
        f"Spread of {words(metric)} over {max(map(len, part['values']))} buckets. {'; '.join(said)}. "
        f"Overlap, and best at 20 % better than worst at 80 %: this {fires}.",
        "Each marker is one bucket, each grey bar the spread over buckets: the article reads bars that overlap as "
        "a sign that active learning will work.",
    )
