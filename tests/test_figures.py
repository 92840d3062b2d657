"""Figures: the pixels and points drawn are those given; what is no image or no metric is left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from lightning_al.figures import contact_sheet, learning_curve

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def filled(colour: tuple[int, int, int], size: int = 8) -> torch.Tensor:
    """A (3, H, W) uint8 image of one colour."""
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, size, size)


def sheet(path: Path, images: list[Any], captions: list[str] | None = None, title: str = "") -> npt.NDArray[np.uint8]:
    assert contact_sheet(images, captions or [""] * len(images), path, title) is True
    return np.asarray(Image.open(path).convert("RGB"))


def where(pixels: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> npt.NDArray[np.intp]:
    return np.argwhere((pixels == colour).all(axis=-1))


def test_tiles_stand_in_the_order_given(tmp_path: Path) -> None:
    images = [filled(RED), filled(GREEN), filled(RED), filled(RED), filled(BLUE)]
    pixels = sheet(tmp_path / "round-001.png", images)
    red, green, blue = where(pixels, RED), where(pixels, GREEN), where(pixels, BLUE)
    assert len(red) == pytest.approx(3 * len(green), rel=0.02)
    assert len(blue) == pytest.approx(len(green), rel=0.02)
    assert red[:, 1].min() < green[:, 1].min() < red[:, 1].max()  # the second of the first row
    assert blue[:, 0].min() > red[:, 0].max()  # the fifth begins the second row, below the first
    assert blue[:, 1].min() == red[:, 1].min()


def test_an_image_is_not_flipped_or_transposed(tmp_path: Path) -> None:
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    image[0, :4, :4] = 255  # red: top left
    image[1, :4, 4:] = 255  # green: top right
    image[2, 4:, :4] = 255  # blue: bottom left
    pixels = sheet(tmp_path / "sheet.png", [image])
    red, green, blue = (where(pixels, colour).mean(axis=0) for colour in (RED, GREEN, BLUE))
    assert green[1] > red[1]
    assert green[0] == pytest.approx(red[0])
    assert blue[0] > red[0]
    assert blue[1] == pytest.approx(red[1])


def test_one_image_in_every_form_is_drawn_alike(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    chw = torch.randint(0, 256, (3, 9, 12), dtype=torch.uint8, generator=generator)
    hwc = chw.permute(1, 2, 0)
    pil = Image.fromarray(hwc.numpy())
    forms = [chw, hwc, chw.numpy(), hwc.numpy(), pil, chw / 255, (chw / 255).double(), (chw, 3), [pil, 3],
             {"label": 3, "image": hwc}, {"pixel_values": chw}, ({"image": chw}, 1),
             torch.cat([chw, torch.full_like(chw[:1], 9)]), (chw / 255).requires_grad_()]  # fmt: skip
    expected = sheet(tmp_path / "expected.png", [chw])
    assert len(np.unique(expected.reshape(-1, 3), axis=0)) > 50
    for number, form in enumerate(forms):
        assert np.array_equal(sheet(tmp_path / f"{number}.png", [form]), expected), number


def test_gray_images_in_every_form_are_drawn_alike(tmp_path: Path) -> None:
    gray = torch.arange(64, dtype=torch.float32).view(8, 8) / 63
    expected = sheet(tmp_path / "expected.png", [gray])
    assert (expected[..., 0] == expected[..., 2]).all()
    for form in (gray[None], gray[..., None], gray.numpy(), gray.bfloat16().float()):
        got = sheet(tmp_path / "form.png", [form])
        assert np.abs(got.astype(int) - expected).max() <= 1


def test_normalised_images_are_stretched_over_the_sheet_and_others_are_not(tmp_path: Path) -> None:
    def tiles(low: float, high: float) -> list[torch.Tensor]:
        return [torch.full((1, 8, 8), low), torch.full((1, 8, 8), (low + high) / 2), torch.full((1, 8, 8), high)]

    for low, high in ((-1.0, 1.0), (-2.5, 0.5), (0.0, 16.0), (0.0, 255.0), (0.0, 1.0)):
        pixels = sheet(tmp_path / "sheet.png", tiles(low, high))
        values, counts = np.unique(pixels[..., 0], return_counts=True)
        assert values[counts > 5000].tolist() in ([0, 127, 255], [0, 128, 255])
    dim = sheet(tmp_path / "dim.png", [torch.full((1, 8, 8), 0.2), torch.full((1, 8, 8), 0.4)])
    values, counts = np.unique(dim[..., 0], return_counts=True)
    assert set(values[counts > 5000].tolist()) == {51, 102, 255}  # as they are, on white
    constant = sheet(tmp_path / "constant.png", [torch.full((1, 8, 8), -3.0)])
    assert where(constant, (0, 0, 0)).size > 5000


def test_values_that_are_not_finite_do_not_spoil_the_sheet(tmp_path: Path) -> None:
    image = torch.full((1, 8, 8), 0.4)
    image[0, 0, 0], image[0, 0, 1], image[0, 0, 2] = float("nan"), float("inf"), -float("inf")
    pixels = sheet(tmp_path / "sheet.png", [image])
    values, counts = np.unique(pixels[..., 0], return_counts=True)
    assert counts[values == 102] > 5000


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [torch.zeros(10)],
        [torch.zeros(3, 1000)],  # a time series of three channels
        [torch.zeros(13, 8, 8)],  # a satellite's bands
        [torch.zeros(2, 8, 8)],
        [torch.zeros(3, 8, 8, 8)],
        [torch.zeros(3, 2, 2)],
        [torch.zeros(8, 8, dtype=torch.complex64)],
        ["a text", "another"],
        [3.0],
        [()],
        [{"tokens": torch.zeros(8, 8)}],
        [None],
        [filled(RED), "a text"],
    ],
)
def test_samples_that_are_no_images_draw_nothing(tmp_path: Path, samples: list[Any]) -> None:
    assert contact_sheet(samples, [""] * len(samples), tmp_path / "sheet.png", "") is False
    assert list(tmp_path.iterdir()) == []


def test_at_most_64_tiles_and_sheets_of_many_shapes(tmp_path: Path) -> None:
    images = [filled(RED)] * 64 + [filled(BLUE)] * 36
    pixels = sheet(tmp_path / "many.png", images)
    assert where(pixels, BLUE).size == 0
    one = len(where(sheet(tmp_path / "one.png", images[:1]), RED))
    assert len(where(pixels, RED)) == pytest.approx(64 * one, rel=0.02)
    mixed = sheet(tmp_path / "mixed.png", [filled(RED, 32), torch.zeros(20, 40), filled(BLUE, 300)])
    assert len(where(mixed, RED)) == pytest.approx(one, rel=0.02)
    assert len(where(mixed, BLUE)) == pytest.approx(one, rel=0.02)


def test_any_caption_and_title_is_drawn(tmp_path: Path) -> None:
    plain = sheet(tmp_path / "plain.png", [filled(RED)])
    pixels = sheet(tmp_path / "sheet.png", [filled(RED)], ["$\\broken_{ & 5 %\n" * 20], "$x_ ^" * 50)
    assert pixels.shape == plain.shape
    assert (pixels != plain).any()
    assert len(where(pixels, RED)) == len(where(plain, RED))  # no text over a picture
    with pytest.raises(ValueError, match="`captions` to have one line for each of 1 images, got 2"):
        contact_sheet([filled(RED)], ["a", "b"], tmp_path / "sheet.png", "")


def history(*rows: tuple[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"round": number, "labeled": labeled, "metrics": metrics} for number, (labeled, metrics) in enumerate(rows)]


def drawn(svg: str) -> list[npt.NDArray[np.float64]]:
    """The blue lines' points in the SVG, one (points, 2) array a line."""
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke: #1f5fa8; stroke-width: 1.8', svg)
    return [np.array(re.findall(r"[ML] (\S+) (\S+)", path), dtype=float) for path in paths]


def test_the_points_drawn_are_the_values(tmp_path: Path) -> None:
    rows = history(
        (100, {"val_acc": torch.tensor(0.5), "val_loss": 2.0}), (200, {"val_acc": 0.7}), (500, {"val_acc": 0.6, "x": 1})
    )
    paths = learning_curve(rows, tmp_path / "figures" / "metrics")
    assert paths == [tmp_path / "figures" / "metrics.png", tmp_path / "figures" / "metrics.svg"]
    assert sorted(tmp_path.rglob("*.*")) == paths
    (accuracy,) = [line for line in drawn(paths[1].read_text()) if len(line) == 3]
    steps = np.diff(accuracy, axis=0)
    assert steps[1, 0] / steps[0, 0] == pytest.approx(3.0, abs=1e-3)  # 300 labels against 100
    assert steps[1, 1] / steps[0, 1] == pytest.approx(-0.5, abs=1e-3)  # 0.1 down after 0.2 up
    assert steps[0, 1] < 0  # up: SVG counts from the top
    assert len(np.unique(np.asarray(Image.open(paths[0]).convert("L")))) > 10


@pytest.mark.parametrize(
    ("values", "at_the_top", "at_the_bottom"),
    [([0.5, 1.0], True, False), ([0.5, 0.0], False, True), ([1.0, 1.1], False, False), ([-0.1, 0.0], False, False)],
)
def test_the_axis_ends_at_1_for_accuracies_and_at_0_for_losses(
    tmp_path: Path, values: list[float], at_the_top: bool, at_the_bottom: bool
) -> None:
    _, path = learning_curve(history(*((100 * n, {"m": value}) for n, value in enumerate(values, 1))), tmp_path / "m")
    svg = path.read_text()
    (line,) = drawn(svg)
    panel = np.array(re.findall(r"[ML] (\S+) (\S+)", svg[svg.index('id="axes_1"') :].partition("/>")[0]), dtype=float)
    assert (line[-1, 1] == pytest.approx(panel[:, 1].min(), abs=1e-3)) == at_the_top  # SVG counts from the top
    assert (line[-1, 1] == pytest.approx(panel[:, 1].max(), abs=1e-3)) == at_the_bottom
    assert panel[:, 1].min() - 1e-3 <= line[:, 1].min() <= line[:, 1].max() <= panel[:, 1].max() + 1e-3


def test_the_title_is_drawn(tmp_path: Path) -> None:
    _, svg = learning_curve(history((100, {"m": 0.5})), tmp_path / "m", "Margin: metrics against labels")
    assert "<!-- Margin: metrics against labels -->" in svg.read_text()


def test_what_is_no_metric_has_no_panel(tmp_path: Path) -> None:
    skipped = {"round": 1, "labeled": 2, "epoch": 3, "step": 4, "lr-Adam": 0.1, "lr": 0.1, "train_loss_step": 1.0,
               "empty": float("nan"), "none": None}  # fmt: skip
    rows = history((100, {"val_acc": 0.5, "train_loss_epoch": 1.0, **skipped}), (200, {"val_acc": 0.75, **skipped}))
    _, svg = learning_curve(rows, tmp_path / "metrics.png")
    text = svg.read_text()
    titles = [name for name in re.findall(r"<!-- (.*?) -->", text) if name in rows[0]["metrics"]]
    assert titles == ["val_acc", "train_loss_epoch"]  # what was trained on comes last
    assert "<!-- labels -->" in text
    assert "<!-- 0.75 -->" in text  # the last value stands at its point
    assert "no interval" in text


def test_a_history_without_metrics_draws_nothing(tmp_path: Path) -> None:
    for rows in ([], history((100, {})), history((100, {"epoch": 3, "val_acc": float("nan")}))):
        assert learning_curve(rows, tmp_path / "metrics") == []
    assert list(tmp_path.iterdir()) == []


def test_many_metrics_are_cut_and_it_says_so(tmp_path: Path) -> None:
    rows = history((100, {f"class_{number:03d}": 0.5 for number in range(40)}))
    _, svg = learning_curve(rows, tmp_path / "metrics")
    text = svg.read_text()
    assert "The first 30 of 40 metrics." in text
    assert "<!-- class_029 -->" in text
    assert "<!-- class_030 -->" not in text


def test_the_users_matplotlib_is_neither_used_nor_changed(tmp_path: Path) -> None:
    with mpl.rc_context({"text.usetex": True, "figure.dpi": 33, "savefig.bbox": "tight", "svg.fonttype": "none"}):
        before = dict(mpl.rcParams)
        learning_curve(history((100, {"val_$acc": 0.5})), tmp_path / "theirs")
        contact_sheet([filled(RED)], ["a_b"], tmp_path / "theirs_sheet.png", "")
        assert dict(mpl.rcParams) == before
    learning_curve(history((100, {"val_$acc": 0.5})), tmp_path / "ours")
    contact_sheet([filled(RED)], ["a_b"], tmp_path / "ours_sheet.png", "")
    assert (tmp_path / "theirs.png").read_bytes() == (tmp_path / "ours.png").read_bytes()
    assert (tmp_path / "theirs_sheet.png").read_bytes() == (tmp_path / "ours_sheet.png").read_bytes()
