"""Figures of a study: every number that is drawn stands in the alt text, and the marks stand where the numbers say."""

# ruff: noqa: RUF001 (the true minus sign is meant)

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from lightning_al.study import cost_figure, drawing, explaining_figures, study_figures
from lightning_al.study.drawing import Figure
from lightning_al.study.study_figures import draw_figures
from tests._helpers.reports import HOSTILE, LABELS, bare, hostile, made_up

NAMES = ["curves", "curves_full_model", "forest", "cost", "variance", "learning_curve", "dataset_map",
         "article_accuracy", "article_precision", "article_recall"]  # fmt: skip


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
    folder = tmp_path_factory.mktemp("figures")
    return {figure.name: figure for figure in draw_figures(made_up("promising"), folder)}


def marks(axes: Any, marker: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for line in axes.lines if line.get_marker() == marker for x, y in line.get_xydata()]


def segments(axes: Any) -> set[tuple[tuple[float, float], ...]]:
    """The two-point lines of a panel, which whiskers are made of."""
    pairs = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2]
    return {tuple((round(float(x), 6), round(float(y), 6)) for x, y in pair) for pair in pairs}


def test_every_part_has_its_figure_in_png_and_svg(figures: dict[str, Figure]) -> None:
    assert list(figures) == NAMES
    for name, figure in figures.items():
        png, svg = figure.paths
        assert (png.name, svg.name) == (f"{name}.png", f"{name}.svg")
        pixels = np.asarray(Image.open(png).convert("RGB"))
        assert pixels.shape[1] == round(drawing.WIDTH * 180)
        assert len(np.unique(pixels @ np.array([65536, 256, 1]))) > 20, f"{name} is empty"
        assert ElementTree.parse(svg).getroot().tag.endswith("svg")
        assert figure.title
        assert figure.caption.endswith(".")


def test_absent_parts_have_no_figure(tmp_path: Path) -> None:
    assert draw_figures(bare(), tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    partly = bare() | {"strategies": [{"name": "Margin", "delta": 1.0, "ci": None}]}
    assert [figure.name for figure in draw_figures(partly, tmp_path)] == ["forest"]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("curves", ["random from 65.0 [63.7, 66.3] to 86.0 [85.4, 86.5]", "60 to 540 labels", "accuracy (points)"]),
        ("curves_full_model", ["random from 63.0 [61.7, 64.3] to 84.0", "Margin from 64.5"]),
        ("forest", ["Margin, full model +1.90 [+0.70, +3.10]", "LeastConfidence +1.10 [+0.41, +1.79]",
                    "Margin +2.60 [+1.91, +3.29]",
                    "KMeans +0.40 [−0.29, +1.09]", "least worthwhile gain is 0.50", "simultaneous"]),
        ("cost", ["Margin +1.90 [+0.70, +3.10] for 0.012 s", "labels saved 296 [194, 398]", "computing −13",
                  "net value 283 [181, 385]"]),
        ("variance", ["which data 71 % [48, 86]", "standard deviation 1.18 points", "training seed 29 % [14, 52]",
                      "standard deviation 0.75 points"]),
        ("learning_curve", ["160 labels 72.8 [68.9, 76.6]", "headroom +27.0 [+24.3, +29.7]"]),
        ("dataset_map", ["1,200 samples", "easy 68 %", "ambiguous 28 %", "hard 4 %"]),
        ("article_recall", ["5 buckets", "20 %: 67.1 to 76.8", "80 %: 79.5 to 81.7", "does not hold"]),
    ],
)  # fmt: skip
def test_alt_texts_hold_the_numbers(figures: dict[str, Figure], name: str, texts: list[str]) -> None:
    for text in texts:
        assert text in figures[name].alt


def test_whiskers_of_the_forest_span_the_intervals() -> None:
    report = made_up("inconclusive")
    axes = study_figures.draw_forest(report).canvas.axes[0]
    for row, each in enumerate(report["strategies"]):
        for end in each["ci"]:
            assert ((each["delta"], row), (end, row)) in segments(axes)
    lines = {line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"}
    assert lines == {report["settings"]["delta"]}
    low, high = axes.get_xlim()
    assert low < min(each["ci"][0] for each in report["strategies"])
    assert high > max(each["ci"][1] for each in report["strategies"])


def test_an_end_without_bound_is_an_arrow_at_the_edge() -> None:
    report = made_up("promising")
    report["strategies"][0]["ci"] = None
    report["strategies"][1]["ci"] = [0.2, None]
    drawn = study_figures.draw_forest(report)
    axes = drawn.canvas.axes[0]
    low, high = axes.get_xlim()
    assert marks(axes, "<") == [(low, 0)]
    assert marks(axes, ">") == [(high, 0), (high, 1)]
    assert "LeastConfidence +1.10 [−∞, ∞]" in drawn.alt


def test_curves_and_bands_are_those_of_the_report() -> None:
    report = made_up("promising")
    axes = study_figures.draw_curves(report).canvas.axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == len(LABELS)]
    assert len(lines) == len(axes.collections) == 5
    for arm, line, band in zip(report["curves"]["arms"].values(), lines, axes.collections, strict=True):
        assert line.get_xdata().tolist() == LABELS
        assert line.get_ydata().tolist() == arm["mean"]
        edges = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
        assert {*zip(LABELS, arm["low"], strict=True), *zip(LABELS, arm["high"], strict=True)} <= edges
    assert lines[0].get_color() == drawing.GREY
    assert lines[0].get_linestyle() == "--"
    looks = {(line.get_color(), line.get_marker()) for line in lines}
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == 5


def test_each_strategy_has_its_look_in_every_figure() -> None:
    report = made_up("promising")
    looks = drawing.arm_looks(report)
    assert looks["random"] == (drawing.GREY, "o")
    assert len({color for color, _ in looks.values()}) == len({marker for _, marker in looks.values()}) == 5
    forest = study_figures.draw_forest(report).canvas.axes[0]
    color, marker = looks["Margin"]
    assert marks(forest, marker) == [(2.6, 1), (1.9, 4)]  # as the proxy and as the full model has it
    assert {line.get_color() for line in forest.lines if line.get_marker() == marker} == {color}


def test_gains_and_money_stand_at_their_costs() -> None:
    report = made_up("promising") | {"confirm": None}
    drawn = cost_figure.draw_cost(report)
    gains, money = drawn.canvas.axes
    assert "BADGE +2.30 [+1.61, +2.99] for 0.214 s a query; KMeans +0.40" in drawn.alt
    for each in report["strategies"]:
        assert tuple((each["seconds_query"], round(end, 6)) for end in each["ci"]) in segments(gains)
    assert [round(bar.get_width(), 6) for bar in money.patches] == [295.5, -12.8, 282.7]
    assert {((295.5, 0), (193.5, 0)), ((295.5, 0), (397.5, 0)), ((282.7, 2), (180.7, 2))} <= segments(money)
    assert all(start[1] != 1 or end[1] != 1 for start, end in segments(money))  # computing has no interval


@pytest.mark.parametrize("arms", [1, 2, 5, 12])
@pytest.mark.parametrize(("money", "same"), [(True, True), (False, True), (True, False)])
def test_names_of_gains_against_time_never_overlap(arms: int, money: bool, same: bool) -> None:
    report = made_up("promising") | {"confirm": None}
    arm, names = report["strategies"][1], [f"AStrategyNo{place}" for place in range(arms)]
    gains = np.full(arms, 2.6) if same else np.random.default_rng(arms).normal(2.6, 0.3, arms)
    report["strategies"] = [{**arm, "name": name, "delta": gain} for name, gain in zip(names, gains, strict=True)]
    report["cost"] = report["cost"] if money else None
    canvas = cost_figure.draw_cost(report).canvas
    canvas.draw_without_rendering()
    axes = canvas.axes[0]
    texts = {text.get_text(): text for text in axes.texts}
    assert sorted(texts) == sorted(names)
    others = [axes.xaxis.label, axes._left_title]
    boxes = [Text.get_window_extent(text) for text in (*texts.values(), *others)]  # of the letters, without leaders
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])
        assert canvas.bbox.x0 <= box.x0 < box.x1 <= canvas.bbox.x1
        assert canvas.bbox.y0 <= box.y0 < box.y1 <= canvas.bbox.y1
    # nor does a name cover a point or whisker: all stand right of the panel
    assert min(box.x0 for box in boxes[:arms]) > axes.bbox.x1
    assert [texts[name].xy for name in names] == [(0.012, gain) for gain in gains]  # each is led to its point


def test_twelve_arms_have_twelve_looks() -> None:
    looks = drawing.arm_looks({"strategies": [{"name": str(place)} for place in range(12)]})
    assert len(set(looks.values())) == 13


def test_variance_bars_have_the_whiskers_of_the_f_interval() -> None:
    report = made_up("promising")
    shares, spread = explaining_figures.draw_variance(report).canvas.axes
    assert [round(bar.get_width(), 6) for bar in shares.patches] == [71, 29]
    assert {((71, 0), (48, 0)), ((71, 0), (86, 0)), ((29, 1), (14, 1)), ((29, 1), (52, 1))} <= segments(shares)
    drawn = sorted(y for _, y in marks(spread, "o"))
    values = [value for each in report["variance"]["by_fraction"] for bucket in each["values"] for value in bucket]
    assert drawn == pytest.approx(sorted(values))


def test_without_training_noise_the_spread_over_buckets_alone_is_drawn() -> None:
    report = made_up("promising")
    whole = explaining_figures.draw_variance(report)
    report["variance"].update(sigma_training=None, icc=None, icc_ci=None)
    drawn = explaining_figures.draw_variance(report)
    (spread,) = drawn.canvas.axes
    assert marks(spread, "o") == marks(whole.canvas.axes[1], "o")
    assert drawn.alt == (
        "which data: standard deviation 1.18 points; "
        "training seed not measured: a proxy's heads have no training noise."
    )
    report["variance"]["by_fraction"] = []
    assert explaining_figures.draw_variance(report) is None


def test_samples_of_the_map_are_grouped_by_how_often_they_were_right() -> None:
    report = bare()
    correctness = [0.0, 0.3, 0.4, 0.6, 0.9, 1.0, 1.0, 0.7]
    report["pathology"] = {"dataset_map": {"confidence": [round(0.1 * place, 1) for place in range(8)],
                                           "variability": [0.2] * 8, "correctness": correctness}}  # fmt: skip
    drawn = explaining_figures.draw_dataset_map(report)
    axes = drawn.canvas.axes[0]
    assert "easy 50 %, ambiguous 25 %, hard 25 %" in drawn.alt
    assert [y for _, y in marks(axes, "^")] == [0.0, 0.1]
    assert [y for _, y in marks(axes, "s")] == [0.2, 0.3]
    assert [y for _, y in marks(axes, "o")] == [0.4, 0.5, 0.6, 0.7]


def test_an_article_plot_shows_every_bucket_and_its_rule() -> None:
    report = made_up("not_promising")
    part = report["legacy"]["metrics"]["precision"]
    part["values"][1][2] = None
    drawn = explaining_figures.draw_article(report, "precision")
    points = [line.get_ydata()[0] for line in drawn.canvas.axes[0].lines if len(line.get_xdata()) == 1]
    assert sorted(points) == sorted(value for row in part["values"] for value in row if value is not None)
    assert f"this {'holds' if part['rule'] else 'does not hold'}." in drawn.alt
    assert len({part["rule"], made_up("promising")["legacy"]["metrics"]["precision"]["rule"]}) == 2


def test_a_lower_is_better_metric_in_its_own_unit_is_named_as_such() -> None:
    report = made_up("promising")
    report["metric"] = {"name": "calibration_error", "higher_is_better": False, "scale": 1, "unit": ""}
    report["settings"]["delta"] = 0.005
    report["strategies"][0].update(delta=0.0123, ci=[0.0017, 0.0229])
    curves, forest, cost = (
        study_figures.draw_curves(report),
        study_figures.draw_forest(report),
        cost_figure.draw_cost(report),
    )
    assert "calibration error (lower is better)" in curves.alt
    assert "its line lies below the dashed grey one" in curves.caption
    assert "its line lies above the dashed grey one" in study_figures.draw_curves(made_up("promising")).caption
    assert forest.canvas.axes[0].get_xlabel() == "gain over random (less calibration error)"
    assert cost.canvas.axes[0].get_title("left") == "gain over random (less calibration error)"
    assert "20 %: 69.0 to 78.7" in explaining_figures.draw_article(report, "accuracy").alt
    assert "LeastConfidence +0.01230 [+0.00170, +0.02290]" in study_figures.draw_forest(report).alt


def test_hostile_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a long name leaves no room for the axes
        figures = draw_figures(hostile(), tmp_path)
    assert [figure.name for figure in figures[:7]] == NAMES[:7]
    assert all(re.fullmatch(r"[A-Za-z0-9_]{1,68}", figure.name) for figure in figures)
    texts = "".join(ElementTree.parse(figures[2].paths[1]).getroot().itertext())
    assert texts.count(HOSTILE[:21]) == 5


def test_figures_are_alike_whatever_the_users_style_and_each_time(tmp_path: Path) -> None:
    import matplotlib as mpl

    report = bare() | {"strategies": made_up("promising")["strategies"]}
    draw_figures(report, tmp_path / "one")
    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "red", "svg.fonttype": "path"}):
        draw_figures(report, tmp_path / "two")
    one, two = ((tmp_path / folder / "forest.svg").read_bytes() for folder in ("one", "two"))
    assert one == two


def test_labels_stand_apart_and_near_their_levels() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        levels = generator.normal(size=6)
        moved = np.array(drawing.apart(levels, 0.4))
        assert np.diff(np.sort(moved)).min() >= 0.4 - 1e-9
        assert (np.argsort(moved) == np.argsort(levels)).all()
        assert moved.mean() == pytest.approx(levels.mean())  # the least squares keep the centre
    assert drawing.apart([0.0, 10.0], 0.4) == [0.0, 10.0]


def test_file_names_and_folder_survive_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = bare() | {"strategies": made_up("promising")["strategies"]}
    draw_figures(report, tmp_path)
    before = (tmp_path / "forest.svg").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    report["strategies"] = report["strategies"][:1]
    with pytest.raises(OSError, match="disk full"):
        draw_figures(report, tmp_path)
    assert (tmp_path / "forest.svg").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix not in (".png", ".svg")] == []
