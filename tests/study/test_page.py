"""The page of a study: valid HTML that holds the report's numbers, escapes its texts, and asks nobody for anything."""

# ruff: noqa: RUF001 (the true minus sign is meant)

from __future__ import annotations

import io
import itertools
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
from PIL import Image

from lightning_al.study import page, wording
from lightning_al.study.compare import compare_curves
from lightning_al.study.page import render, write_page
from tests._helpers.pages import Outline, browse, needs_chromium
from tests._helpers.reports import HOSTILE, bare, hostile, made_up


def with_sheets(report: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Gives every strategy of a report a contact sheet of noise, larger than the page shows."""
    generator = np.random.default_rng(0)
    (folder / "sheets").mkdir(parents=True)
    for place, each in enumerate(report["pathology"]["by_strategy"]):
        each["sheet"] = f"sheets/{place}.png"
        Image.fromarray(generator.integers(0, 256, (900, 1200, 3), dtype=np.uint8)).save(folder / each["sheet"])
    return report


@dataclass
class Written:
    report: dict[str, Any]
    path: Path
    html: str
    outline: Outline = field(init=False)

    def __post_init__(self) -> None:
        self.outline = Outline(self.html)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """The pages of a report with everything, of one with nothing, and of one with hostile texts."""
    written = {}
    for name, report in (("whole", made_up("promising")), ("bare", bare()), ("hostile", hostile())):
        folder = tmp_path_factory.mktemp(name)
        report = with_sheets(report, folder) if report["pathology"] else report
        path = write_page(report, folder)
        written[name] = Written(report, path, path.read_text(encoding="utf-8"))
    return written


@pytest.mark.parametrize("verdict", ["promising", "not_promising", "inconclusive"])
def test_the_verdict_comes_first_in_words(verdict: str) -> None:
    report = made_up(verdict)
    outline = Outline(render(report, [], []))
    answer, short = wording.VERDICTS[verdict]
    text = outline.text("title")
    assert text.startswith(f"Will active learning work for this problem? {answer} {short} {report['headline']}")
    assert {"class": f"verdict {verdict}"} in outline.named("div")
    order = (report["headline"], report["reasons"][0], report["advice"][0], "Intervals hold")
    places = [text.index(each) for each in order]
    assert places == sorted(places)
    others = [words for name, (words, _) in wording.VERDICTS.items() if name != verdict]
    assert not any(each in text for each in others)


@pytest.mark.parametrize("name", ["whole", "bare", "hostile"])
def test_headings_are_in_order_and_pictures_have_words(pages: dict[str, Written], name: str) -> None:
    outline = pages[name].outline
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    assert len(set(ids)) == len(ids)
    assert outline.named("html")[0]["lang"] == "en"
    for image in outline.named("img"):
        assert len(image["alt"] or "") > 20
        assert image["width"]
        assert image["height"]
    for svg in outline.named("svg"):
        named = (svg.get("aria-labelledby") or "").split()
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and len(named) == 2 and set(named) <= set(ids))
    links = [link["href"] or "" for link in outline.named("a")]
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    for cell in outline.named("th"):
        assert cell["scope"] in ("row", "col")


def test_every_table_has_as_many_cells_in_each_row(pages: dict[str, Written]) -> None:
    for table in re.findall(r"<table.*?</table>", pages["whole"].html, re.DOTALL):
        assert len({len(row) for row in Outline(table).rows}) == 1, table[:300]


def test_numbers_of_strategies_are_the_reports_with_their_intervals(pages: dict[str, Written]) -> None:
    outline = pages["whole"].outline
    margin = ["+2.60 [+1.91, +3.29]", "0.70", "0.004", "10 of 10", "+1.04 [+0.44, +1.64]", "-"]
    assert outline.row("Margin") == margin
    assert outline.row("Margin", 1) == ["38 % [24, 50]", "0.61 [0.49, 0.76]", "315", "0 %", "0.082", "0.012"]
    assert outline.row("KMeans")[0] == "+0.40 [−0.29, +1.09]"
    confirmed = ["+1.90 [+0.70, +3.10]", "0.70", "0.004", "6 of 6", "+1.04 [+0.44, +1.64]", "-"]
    assert outline.row("Margin", 2) == confirmed
    text = outline.text()
    for each in (
        "+1.90 points [+0.70, +3.10]", "38 % [24, 50] %", "315 instead of 498 labels for accuracy 82.7",
        "0.61 [0.49, 0.76] times as many", "283 [181, 385]", "197 [129, 265] labels at 1.50 each",
        "worth 296 [194, 398]", "computing costs 12.80 (3.20 hours at 4.00)", "+5.10 points [+4.20, +6.00]",
    ):  # fmt: skip
        assert each in text, each


def test_without_a_confirmation_the_proxys_numbers_stand_first() -> None:
    text = Outline(render(made_up("promising") | {"confirm": None}, [], [])).text()
    assert "This is a proxy" in text
    for each in ("+2.60 points [+1.91, +3.29]", "315 instead of 512 labels for accuracy 84.1"):
        assert text.index(each) < text.index("All numbers", text.index("Limits") + 10)


def test_numbers_of_the_other_parts_are_the_reports(pages: dict[str, Written]) -> None:
    report, outline = pages["whole"].report, pages["whole"].outline
    random = report["curves"]["arms"]["random"]
    for place in (0, 8):
        mean, low, high = (random[key][place] for key in ("mean", "low", "high"))
        assert outline.row(str(report["curves"]["labels"][place]))[0] == f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    expected = [f"{value:.2f}" for value in report["penalty_matrix"]["rows"][2]]
    assert expected in [row[1:] for row in outline.rows if row and row[0] == "Margin"]
    assert outline.row("Share of the data in the variance (ICC)") == ["0.71 [0.48, 0.86]"]
    assert outline.row("Standard deviation between training seeds (points)") == ["0.75"]
    assert outline.row("F test of no effect of the data") == ["F = 8.34, p < 0.001"]
    assert outline.row("80.0") == ["442 [391, 520]"]
    assert outline.row("88.0") == ["3,921 [2,417, ∞]"]
    assert outline.row("95.0") == ["beyond what the data tell [−∞, ∞]"]
    assert ["31.0 % [24.8, 37.2], pool 8.0 %"] in [row[2:3] for row in outline.rows if row[:1] == ["LeastConfidence"]]
    assert outline.row("label cost") == ["1.5"]
    assert outline.row("design-b2-f0.4-s1") == ["RuntimeError: out of memory"]
    text = outline.text()
    for each in ("3.4 % [2.7, 4.2] (confident learning)", report["notes"][0], report["legacy"]["paragraph"],
                 "4: Maize, Fat Hen, Charlock, Cleavers", "b = 0.550 [0.460, 0.650]",
                 "no better than a 20 or 40 % sample) does not hold here", "holds in 0 of 3 metrics",
                 "The full model decided"):  # fmt: skip
        assert each in text, each


def test_figures_stand_in_the_page_with_their_alt_texts(pages: dict[str, Written]) -> None:
    html, outline = pages["whole"].html, pages["whole"].outline
    figures = [each["id"] for each in outline.named("figure") if each.get("id")]
    assert figures == ["curves", "curves_full_model", "forest", "cost", "variance", "learning_curve", "dataset_map",
                       "article_accuracy", "article_precision", "article_recall"]  # fmt: skip
    descriptions = [data for tag, data in outline.texts if tag == "desc"]
    assert len(descriptions) == 10
    assert "Margin +2.60 [+1.91, +3.29]" in descriptions[2]
    used = set(re.findall(r"(?:href=\"|url\()#([^\")]+)", html))
    assert used <= {each["id"] for _, each in outline.tags if each.get("id")}
    styles = "".join(each.get("style") or "" for _, each in outline.tags)
    assert "var(--ink)" in styles
    assert not re.search("#222222|#ffffff|#0072b2", styles)  # would not change with the theme


@pytest.mark.parametrize(("part", "gone"), [
    ("variance", "What makes results differ"), ("curve", "Labels needed"), ("headroom", "Headroom"),
    ("pathology", "What the strategies ask for"), ("legacy", "article"), ("confirm", "full model decided"),
    ("curves", "by number of labels"), ("penalty_matrix", "Penalty"), ("data", "Test set"), ("seeds", "Seeds"),
    ("versions", "Versions"), ("advice", "What to run next"), ("failures", "Fits that failed twice"),
])  # fmt: skip
def test_a_missing_part_does_not_appear(part: str, gone: str) -> None:
    report = made_up("promising")
    assert gone in Outline(render(report, [], [])).text()
    report[part] = [] if isinstance(report[part], list) else None
    text = Outline(render(report, [], [])).text()
    assert gone not in text
    assert not re.search(r"\bNone\b|\bnan\b|Undefined|undefined", text)


def test_what_was_not_measured_is_said_where_one_would_look(pages: dict[str, Written]) -> None:
    text = pages["bare"].outline.text()
    assert "Gain over random labels not measured" in text
    assert text.count("What this saves in money is told here where the study is given label_cost (and hour_cost).") == 1
    assert not re.search(r"\bNone\b|\bnan\b|Undefined", text)
    without_costs = made_up("promising") | {"cost": None, "confirm": None}
    without = Outline(render(without_costs, [], []))
    assert "Money saved" not in without.text()
    assert ("p", {"class": "quiet"}) in without.tags
    assert ("p", {"class": "quiet"}) not in Outline(render(made_up("promising"), [], [])).tags


def noiseless() -> dict[str, Any]:
    """A proxy's report."""
    report = made_up("promising") | {"confirm": None}
    report["settings"]["mode"] = "proxy"
    report["variance"].update(sigma_training=None, icc=None, icc_ci=None, f=None, p=None)
    return report


def test_a_proxy_tells_no_training_noise(tmp_path: Path) -> None:
    html = write_page(noiseless(), tmp_path).read_text()
    outline = Outline(html)
    told = "not measured: a proxy's heads have no training noise"
    assert outline.row("Standard deviation between training seeds (points)") == [told]
    assert outline.row("Standard deviation between data of the same amount (points)") == ["1.18"]
    assert f"training seed {told}." in outline.text()
    for absent in ("ICC", "F test", "F interval", "training seed 0 %", "training seed: "):
        assert absent not in html.partition("</style>")[2], absent


def test_a_proxy_says_how_to_confirm_in_python_and_on_the_command_line() -> None:
    text = Outline(render(noiseless(), [], [])).text()
    assert (
        "with the full model, run it again with FeasibilityStudy(..., confirm=True), or lightning-al study --confirm "
        "on the command line." in text
    )


def test_ends_without_bound_and_targets_never_reached(pages: dict[str, Written]) -> None:
    outline = Outline(render(made_up("inconclusive"), [], []))
    assert outline.row("LeastConfidence", 1)[:4] == ["never reached", "never reached", "never reached", "62 %"]
    assert outline.row("Margin", 1)[:2] == ["12 % [−∞, 24]", "0.88 [0.76, ∞]"]
    assert "[−∞, 24] % best guess 12 %" in outline.text()
    assert "BADGE collapsed alone in 7." in outline.text()


def unpaid() -> dict[str, Any]:
    """A report whose strategies are worthwhile and do not pay: 197 labels at 1.50 are saved for 500 of computing."""
    report = made_up("promising") | {"verdict": "inconclusive", "confirm": None, "required_R": 34}
    report["cost"].update(compute_cost=500.0, net=-204.5, net_ci=[-306.5, -102.5])
    return report


def test_where_the_price_decides_the_page_tells_the_price_that_pays() -> None:
    text = Outline(render(unpaid(), [], [])).text()
    assert text.count(" ".join(wording.UNPAID)) == 1
    assert "neither shown nor ruled out" not in text
    assert "It pays where a label costs more than 2.54." in text  # 500 / 197
    assert "Replicates that would settle it" not in text
    assert "not established" not in text.lower()  # the gain is
    assert "Replicates that would settle it" in Outline(render(made_up("inconclusive"), [], [])).text()
    assert (
        "Replicates that would settle it"
        not in Outline(render(made_up("promising") | {"required_R": 12}, [], [])).text()
    )


def test_an_open_answer_shows_ranges_before_numbers() -> None:
    text = Outline(render(made_up("inconclusive"), [], [])).text()
    assert "What it might save: not established" in text
    assert "[−0.57, +2.17] points best guess +0.80 points Not established. More accuracy, on average" in text
    assert "[−∞, 24] % best guess 12 % Not established. 452 instead of 512" in text
    promising = Outline(render(made_up("promising"), [], [])).text()
    assert "not established" not in promising.lower()


def test_a_lower_metric_reads_right() -> None:
    report = made_up("promising")
    report["metric"] = {"name": "loss", "higher_is_better": False, "scale": 1, "unit": ""}
    report["settings"]["delta"] = 0.02
    outline = Outline(render(report, [], []))
    text = outline.text()
    assert "+1.9000 [+0.7000, +3.1000] Less loss, on average over the budget; at least 0.0200 would" in text
    assert "a positive gain is less loss, an improvement" in text
    assert "Better than random in" in text
    assert "bove random" not in text
    assert outline.row("accuracy")[:2] == [f"{report['legacy']['metrics']['accuracy'][key]:.1f}" for key in
                                           ("best_20", "worst_80")]  # fmt: skip


def test_curves_made_elsewhere_have_no_study_behind_them() -> None:
    rows = [
        {"arm": arm, "replicate": replicate, "labels": labels, "accuracy": 0.5 + 0.01 * step + gain * (step > 0)}
        for arm, gain in (("random", 0.0), ("Margin", 0.02)) for replicate in range(4)
        for step, labels in enumerate((10, 20, 30, 40))
    ]  # fmt: skip
    report = compare_curves(rows, "accuracy").to_dict() | {"notes": []}
    text = Outline(render(report, [], [])).text()
    assert "made from curves that were measured elsewhere" in text
    for false in ("pilot", "curves.csv", "label_cost", "label cost", "finished fits", "saves in money", "confirm",
                  "contact sheet"):  # fmt: skip
        assert false not in text, false
    whole = Outline(render(made_up("promising"), [], [])).text()
    assert "each fit is in curves.csv" in whole
    assert "Intervals hold for this pilot" in whole


def test_where_random_never_rises_no_saving_is_shown() -> None:
    report = made_up("promising") | {"confirm": None}
    report["target"] |= {"random_labels": 60.0, "at_once": True}
    for each in report["strategies"]:
        each.update(saving=None, saving_ci=[None, None], label_ratio=None, label_ratio_ci=[None, None], censored=False)
    report["cost"].update(labels_saved=0.0, ci=[None, None])
    outline = Outline(render(report, [], []))
    assert "no level to compare Random labels reach no level to compare with: the first they have are already" in (
        outline.text()
    )
    assert "within 0.50 points of their last" in outline.text()
    assert "Money saved with Margin none" in outline.text()
    assert outline.row("Margin", 1)[:2] == ["-", "-"]
    assert "labels saved with Margin 0" not in outline.text().lower()


def test_room_and_headroom_are_explained() -> None:
    text = Outline(render(made_up("promising"), [], [])).text()
    assert "Room for any strategy at all +5.10 points [+4.20, +6.00] The most that any strategy could add to" in text
    assert text.count("the most that any strategy could add to random labels, on average over the budget") == 2
    assert "Headroom What the whole pilot gains over the first labels" in text


def test_an_unknown_number_of_classes_has_no_row() -> None:
    report = made_up("promising")
    assert Outline(render(report, [], [])).row("Classes") == ["4: Maize, Fat Hen, Charlock, Cleavers"]
    report["data"] |= {"classes": None, "class_names": None}
    outline = Outline(render(report, [], []))
    assert [row for row in outline.rows if row[:1] == ["Classes"]] == []


def test_the_full_models_notes_failures_and_answer_are_shown() -> None:
    report = made_up("promising")
    report["confirm"] |= {
        "notes": ["Every fit began with the same `weights`."], "seconds": {"fit": 77.5},
        "failures": [{"key": "simulation-Margin-r06", "error": "RuntimeError: no space"}],
    }  # fmt: skip
    outline = Outline(render(report, [], []))
    text = outline.text()
    assert "Fits of the full model that failed twice" in text
    assert outline.row("simulation-Margin-r06") == ["RuntimeError: no space"]
    assert outline.row("design-b2-f0.4-s1") == ["RuntimeError: out of memory"]
    limits = text[text.rindex("Limits") :]
    assert "Full model: Every fit began with the same weights." in limits
    assert f"Proxy: {report['notes'][0]}" in limits
    assert outline.row("fit") == ["77.5"]


def test_backticks_become_code_and_nothing_else() -> None:
    html = render(bare() | {"headline": "Set `<b>` & run", "notes": ["an odd ` stays a text"]}, [], [])
    assert "Set <code>&lt;b&gt;</code> &amp; run" in html
    assert "an odd " in Outline(html).text()


def test_limits_are_said(pages: dict[str, Written]) -> None:
    for written in pages.values():
        text = written.outline.text()
        assert "Intervals hold for this pilot and this test set" in text
        assert "understates what a large pool offers, the junk too" in text
        assert "one strategy that collapses alone in about one run of ten" in text
    assert "all intervals of gains are exploratory" in pages["bare"].outline.text()
    assert "exploratory" not in pages["whole"].outline.text()


def test_hostile_texts_stay_texts(pages: dict[str, Written]) -> None:
    html, outline = pages["hostile"].html, pages["hostile"].outline
    assert {tag for tag, _ in outline.tags}.isdisjoint({"script", "iframe", "object", "embed", "form"})
    assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in outline.named("img"))
    shown = " ".join(wording.plain(HOSTILE).split())
    for tag in ("li", "td", "th", "h3", "dt", "title", "desc", "figcaption", "p"):
        texts = " ".join("".join(data for opened, data in outline.texts if opened == tag).split())
        assert shown in texts, tag
    assert [each["alt"] for each in outline.named("img") if shown in (each["alt"] or "")]
    assert "\x00" not in html
    assert "\u202e" not in html
    assert "49" not in "".join(data for tag, data in outline.texts if tag == "li")  # {{ 7*7 }} was not run
    svg_texts = [data for tag, data in outline.texts if tag == "text" and "<script>" in data]
    assert len(svg_texts) >= 4


def test_a_lone_surrogate_can_be_written(tmp_path: Path) -> None:
    path = write_page(bare() | {"headline": "before \ud800 after"}, tmp_path)
    assert "before � after" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["whole", "bare", "hostile"])
def test_nothing_is_fetched(pages: dict[str, Written], name: str) -> None:
    html, outline = pages[name].html, pages[name].outline
    for tag, attributes in outline.tags:
        for key in ("src", "href", "srcset", "data", "action", "poster", "background"):
            value = attributes.get(key) or ""
            assert value.startswith(("#", "data:")) or not value, (tag, key, value)
    assert re.findall(r"url\((?!#)", html) == []
    assert "@import" not in html
    policy = next(each for each in outline.named("meta") if each.get("http-equiv"))
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert (policy["content"] or "").startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")


def test_it_prints_and_has_a_dark_theme(pages: dict[str, Written]) -> None:
    style = "".join(data for tag, data in pages["whole"].outline.texts if tag == "style")
    assert style.count("{") == style.count("}")
    printed = style[style.index("@media print") :]
    assert "break-inside: avoid" in printed
    assert re.search(r"nav \{ display: none", printed)
    dark = style[style.index("@media screen and (prefers-color-scheme: dark)") :].split("}")[0]
    light = style.split("}")[0]
    names = set(re.findall(r"(--\w+):", light))
    assert names == set(re.findall(r"(--\w+):", dark))
    assert {value.removeprefix("var(").removesuffix(")") for value in page._THEME.values()} <= names


def _luminance(color: str) -> float:
    channels = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_texts_and_marks_stand_out_in_both_themes(pages: dict[str, Written]) -> None:
    style = "".join(data for tag, data in pages["whole"].outline.texts if tag == "style")
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    for theme in (style.split("}")[0], style[style.index("prefers-color-scheme: dark") :].split("}")[0]):
        colors = dict(re.findall(r"--(\w+): (#\w{6})", theme))
        for text in ("ink", "muted", "link"):
            assert min(_contrast(colors[text], colors[paper]) for paper in ("page", "card")) >= 4.5, text
        for mark in ("grey", "blue", "vermillion", "green", "purple"):
            assert _contrast(colors[mark], colors["card"]) >= 2.9, mark
    for verdict in wording.VERDICTS:
        background = re.search(rf"\.verdict\.{verdict} \{{ background: (#\w{{6}})", style)
        assert background
        assert _contrast("#ffffff", background[1]) >= 4.5


def test_sheets_are_made_smaller_until_the_page_is_small(pages: dict[str, Written]) -> None:
    written = pages["whole"]
    images = written.outline.named("img")
    assert len(images) == 5
    assert written.path.stat().st_size < 3_000_000
    uris = [(image["src"] or "").removeprefix("data:image/jpeg;base64,") for image in images]
    assert sum(len(page.base64.b64decode(uri)) for uri in uris) <= page.SHEETS_BYTES
    picture = Image.open(io.BytesIO(page.base64.b64decode(uris[0])))
    assert picture.format == "JPEG"
    assert str(picture.width) == images[0]["width"]
    assert picture.width < 1200
    original = Image.open(written.path.parent / "sheets" / "0.png").convert("L").resize((8, 6))
    difference = np.asarray(original, dtype=float) - np.asarray(picture.convert("L").resize((8, 6)), dtype=float)
    assert np.abs(difference).max() < 12


def test_a_sheet_outside_the_folder_is_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    report = with_sheets(bare() | {"pathology": made_up("promising")["pathology"]}, folder)
    report["pathology"]["dataset_map"] = None
    sheets = report["pathology"]["by_strategy"]
    shutil.move(folder / "sheets" / "0.png", tmp_path / "secret.png")
    sheets[0]["sheet"], sheets[1]["sheet"], sheets[2]["sheet"] = "../secret.png", str(tmp_path / "secret.png"), "gone"
    html = write_page(report, folder).read_text(encoding="utf-8")
    assert len(Outline(html).named("img")) == 2


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_page(bare(), tmp_path).read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_page(bare() | {"headline": "other"}, tmp_path)
    assert (tmp_path / "index.html").read_bytes() == before


@needs_chromium
def test_the_browser_check_sees_errors_and_requests(tmp_path: Path) -> None:
    path = tmp_path / "loud.html"
    path.write_text('<title>x</title><img src="http://127.0.0.1:9/x.png"><script>console.error("loud")</script>')
    seen = browse(path, tmp_path / "profile")
    assert "loud" in seen.console[0]
    assert seen.requests == {"http://127.0.0.1:9/x.png"}


@needs_chromium
@pytest.mark.parametrize("name", ["whole", "bare", "hostile"])
def test_a_browser_shows_it_without_error_or_request(pages: dict[str, Written], name: str, tmp_path: Path) -> None:
    seen = browse(pages[name].path, tmp_path / "profile")
    assert seen.console == []
    assert seen.requests == set()
    dom, outline = Outline(seen.dom), pages[name].outline
    assert [tag for tag, _ in dom.tags] == [tag for tag, _ in outline.tags]  # nothing had to be mended or was run
    assert dom.text() == outline.text()


def test_templates_are_found_in_the_package() -> None:
    assert jinja2.PackageLoader("lightning_al.study").list_templates() == [
        "parts.html.jinja",
        "report.css",
        "report.html.jinja",
    ]
