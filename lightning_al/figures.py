"""Pictures of a run: what was asked (contact sheets), and what the labels bought (metric against labels).

Matplotlib is imported where something is drawn, and only its object API is used: no window, no pyplot state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lightning_al import durable

MAX_TILES = 64
"""More pictures than this on one sheet are too small to look at."""

MAX_PANELS = 30
"""More metrics than this (one a class, say) are not drawn: they are all in rounds.csv."""

_IMAGE_KEYS = ("image", "images", "img", "pixel_values", "x", "input")
_SMALLEST_SIDE, _LARGEST_ASPECT = 4, 16
_TILE = (1.35, 1.56)
"""Inches a picture takes, with its margin and caption."""
_TOP = 0.5
_PANEL = (4.3, 3.1)
"""Inches a curve takes, with its title and axes."""
_LINE, _TEXT, _MUTED, _GRID = "#1f5fa8", "#222222", "#6b6b6b", "#e3e3e3"
_HEADLINE: dict[str, Any] = {"size": 11.5, "weight": "bold", "color": _TEXT, "parse_math": False}

Pixels = npt.NDArray[np.float32]


def contact_sheet(images: Sequence[Any], captions: Sequence[str], path: str | Path, title: str) -> bool:
    """Draws the samples of a query on one page, in the order picked.

    Args:
        images: The samples: tensors or arrays (H, W), (C, H, W) or (H, W, C) with 1, 3 or 4 channels, or PIL images;
            of an (image, target) pair or a dict the image is taken. Bytes (uint8) and floats in [0, 1] are shown as
            they are; other values (normalised images) are stretched to the range of the whole sheet.
        captions: One line below each.
        path: The PNG to write.
        title: The line above the sheet.

    Returns:
        Whether it was drawn: ``False`` where the samples are not images, and nothing is written.

    Raises:
        ValueError: If there are not as many captions as images.
        OSError: If the file cannot be written.

    Examples:
        >>> contact_sheet([torch.tensor([0.1, 0.2])], ["#7"], "round-001.png", "Round 1")
        False
    """
    if len(images) != len(captions):
        raise ValueError(f"Expected `captions` to have one line for each of {len(images)} images, got {len(captions)}.")
    tiles = [_pixels(sample) for sample in images[:MAX_TILES]]
    shown = [tile for tile in tiles if tile is not None]
    if not shown or len(shown) < len(tiles):
        return False
    if len(images) > len(shown):
        title = f"{title} (the first {len(shown)} of {len(images)})"
    with _plain_style():
        from matplotlib.figure import Figure

        columns = min(8, max(4, math.ceil(math.sqrt(len(shown)))))
        rows = math.ceil(len(shown) / columns)
        figure = Figure(figsize=(_TILE[0] * columns, _TILE[1] * rows + _TOP), facecolor="white")
        inch = 1 / figure.get_figwidth(), 1 / figure.get_figheight()
        figure.text(0.1 * inch[0], 1 - 0.25 * inch[1], _shorter(title, 13 * columns), va="center", **_HEADLINE)
        for place, (pixels, caption) in enumerate(zip(_stretched(shown), captions, strict=False)):
            row, column = divmod(place, columns)
            left, bottom = _TILE[0] * column + 0.1, _TILE[1] * (rows - 1 - row) + 0.3
            side = _TILE[0] - 0.2
            axes = figure.add_axes((left * inch[0], bottom * inch[1], side * inch[0], side * inch[1]))
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
            axes.set_axis_off()
            below = ((left + side / 2) * inch[0], (bottom - 0.06) * inch[1])
            figure.text(*below, _shorter(caption, 22), ha="center", va="top", size=7.5, color=_TEXT, parse_math=False)
        with durable.replacing(Path(path)) as temporary:
            figure.savefig(temporary, format="png", dpi=110)
    return True


def learning_curve(history: Sequence[Mapping[str, Any]], path: str | Path, title: str = "") -> list[Path]:
    """Draws each metric against the number of labels, a panel a metric.

    Args:
        history: A mapping a round: ``labeled`` and ``metrics`` (name to value). Learning rates, counters and
            ``*_step`` values are left out.
        path: Where to write, with or without suffix: a ``.png`` and a ``.svg`` are written.
        title: The line above.

    Returns:
        The files written: none where the history holds no metric.

    Raises:
        OSError: If a file cannot be written.
    """
    curves = metric_curves(history)
    if not curves:
        return []
    stem = Path(path)
    stem = stem.with_suffix("") if stem.suffix in (".png", ".svg") else stem
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg")]
    note = "One run, so no interval is shown: another seed may differ."
    if len(curves) > MAX_PANELS:
        note += f" The first {MAX_PANELS} of {len(curves)} metrics."
        curves = dict(list(curves.items())[:MAX_PANELS])
    with _plain_style():
        from matplotlib.figure import Figure

        columns = min(3, len(curves))
        rows = math.ceil(len(curves) / columns)
        # placed by hand: the constrained layout draws all of it two more times, and a round may last a second
        figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows + 0.75), facecolor="white")
        inch = 1 / figure.get_figwidth(), 1 / figure.get_figheight()
        for place, (name, points) in enumerate(curves.items()):
            row, column = divmod(place, columns)
            left, bottom = _PANEL[0] * column + 0.65, _PANEL[1] * (rows - 1 - row) + 0.9
            size = (_PANEL[0] - 1.0) * inch[0], (_PANEL[1] - 0.9) * inch[1]
            _panel(figure.add_axes((left * inch[0], bottom * inch[1], *size)), name, points)
        figure.text(
            0.2 * inch[0],
            1 - 0.3 * inch[1],
            _shorter(title or "Metrics against labels", 40 * columns),
            va="center",
            **_HEADLINE,
        )
        figure.text(0.2 * inch[0], 0.2 * inch[1], note, va="center", size=8, color=_MUTED)
        for target in paths:
            with durable.replacing(target) as temporary:
                metadata = {"Date": None} if target.suffix == ".svg" else None
                figure.savefig(temporary, format=target.suffix[1:], dpi=150, metadata=metadata)
    return paths


def metric_curves(history: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Finds the metrics of a run that are worth looking at.

    Args:
        history: A mapping a round, as for `learning_curve`.

    Returns:
        By name the labels and finite values, round after round; those of training come last.

    Examples:
        >>> metric_curves([{"labeled": 20, "metrics": {"train_loss": 2.0, "val_acc": 0.5, "lr-Adam": 0.1}}])
        {'val_acc': [(20, 0.5)], 'train_loss': [(20, 2.0)]}
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in history:
        for name, value in row.get("metrics", {}).items():
            counter = name in ("round", "labeled", "unlabeled", "rejected", "epoch", "step")
            if counter or name.startswith("lr") or name.endswith("_step") or value is None:
                continue
            if math.isfinite(value := float(value)):
                curves.setdefault(name, []).append((int(row["labeled"]), value))
    return dict(sorted(curves.items(), key=lambda curve: (curve[0].startswith("train"), curve[0])))


def _panel(axes: Any, name: str, points: Sequence[tuple[int, float]]) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    labels, values = zip(*points, strict=True)
    axes.plot(labels, values, color=_LINE, linewidth=1.8, marker="o", markersize=4.5, clip_on=False, zorder=3)
    # the last value is what people look for: on the right, where no line comes from
    no_grid = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    last = {"textcoords": "offset points", "xytext": (7, 0), "va": "center", "size": 9, "color": _LINE, "bbox": no_grid}
    axes.annotate(f"{values[-1]:.3g}", (labels[-1], values[-1]), **last)
    axes.set_title(_shorter(name, 36), loc="left", size=10.5, weight="bold", color=_TEXT, parse_math=False)
    axes.set_xlabel("labels", size=9, color=_MUTED)
    axes.set_xlim(0, 1.12 * max(*labels, 1))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.margins(y=0.18)
    if min(values) == max(values):  # the automatic axis would show a precision that one value does not have
        axes.set_yticks([values[0]], [f"{values[0]:.3g}"])
    low, high = axes.get_ylim()
    if min(values) >= 0:  # no margin below a loss of 0 or above an accuracy of 1
        axes.set_ylim(max(low, 0), min(high, 1) if max(values) <= 1 else high)
    axes.tick_params(color=_GRID, labelcolor=_MUTED, labelsize=9)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)


@contextmanager
def _plain_style() -> Iterator[None]:
    """Draws alike whatever the user's matplotlibrc says: with ``text.usetex`` a metric's underscore would raise."""
    import matplotlib.style

    with matplotlib.style.context("default"):
        yield


def _pixels(sample: Any) -> Pixels | None:
    """A sample as (H, W) or (H, W, C) float32, in [0, 1] where the values say so; ``None`` where it is no image."""
    if isinstance(sample, Mapping):
        return _pixels(next((sample[key] for key in _IMAGE_KEYS if key in sample), None))
    if isinstance(sample, tuple | list):
        return _pixels(sample[0]) if sample else None
    if hasattr(sample, "convert") and hasattr(sample, "mode"):  # PIL, without importing it
        sample = np.asarray(sample if sample.mode in ("I", "F", "I;16") else sample.convert("RGB"))
    if isinstance(sample, torch.Tensor):
        sample = sample.detach().cpu()
        sample = (sample.float() if sample.is_floating_point() else sample).numpy()
    if not isinstance(sample, np.ndarray) or sample.dtype.kind not in "buif":
        return None
    if sample.ndim == 3 and (sample.shape[0] in (1, 3) or (sample.shape[0] == 4 and sample.shape[2] not in (1, 3, 4))):
        sample = sample.transpose(1, 2, 0)
    if sample.ndim == 3 and sample.shape[2] == 1:
        sample = sample[:, :, 0]
    if sample.ndim not in (2, 3) or (sample.ndim == 3 and sample.shape[2] not in (3, 4)):
        return None
    short, long = sorted(sample.shape[:2])
    if short < _SMALLEST_SIDE or long > _LARGEST_ASPECT * short:
        return None
    pixels = sample[:, :, :3] if sample.ndim == 3 else sample
    values: Pixels = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return values / np.float32(255) if sample.dtype == np.uint8 else values


def _stretched(tiles: list[Pixels]) -> list[Pixels]:
    low = min(float(tile.min()) for tile in tiles)
    high = max(float(tile.max()) for tile in tiles)
    if low >= 0 and high <= 1:
        return tiles
    return [(tile - low) / max(high - low, 1e-12) for tile in tiles]


def _shorter(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
