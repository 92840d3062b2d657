"""The page of a run: true to what the run left, whatever state it is in and whatever its texts hold."""

# ruff: noqa: RUF001 (the true minus sign is meant)

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pytest

from lightning_al.cli import main
from lightning_al.exceptions import ActiveLearningError, LedgerError, RunFolderError
from lightning_al.report import make_report, make_run_report
from lightning_al.run_folder import RecordedQuery, RunFolder
from lightning_al.study import wording
from tests._helpers.pages import Outline, browse, needs_chromium
from tests._helpers.reports import HOSTILE
from tests._helpers.run_folders import NAMES, answer, eventful, round_row, write_run, write_sheet


@dataclass
class Made:
    folder: RunFolder
    path: Path
    html: str
    outline: Outline

    @property
    def lead(self) -> str:
        """The paragraph that tells the run."""
        return re.sub(r"\s+", " ", self.html.split('<p class="lead">')[1].split("</p>")[0]).replace("\u00a0", " ")


def make(folder: RunFolder, output: Path, **arguments: Any) -> Made:
    path = make_run_report(folder.path, output, **arguments)
    html = path.read_text(encoding="utf-8")
    return Made(folder, path, html, Outline(html))


def hostile(root: Path) -> RunFolder:
    """A run whose every text is hostile."""
    query = RecordedQuery([10, 11, 12], None, HOSTILE, frozenset([11]), paths=[HOSTILE, "a", "b"])
    rows = [answer(1, 0, 0, "initial"), answer(10, 1, "junk", HOSTILE), answer(11, 1, 1, "control")]
    rows += [answer(12, 2, HOSTILE, HOSTILE), answer(1, 2, {"boxes": [HOSTILE]}, HOSTILE)]
    history = [round_row(n, 1 + n, {f"val_{HOSTILE}": 0.5 + n, "val_loss": 1.0}) for n in range(3)]
    return write_run(
        root, history=history, queries={(1, 1): query, (3, 1): RecordedQuery([30], None, HOSTILE)}, rows=rows,
        strategy=HOSTILE, reason=HOSTILE, classes=[HOSTILE, f"{HOSTILE}2", "-"], fingerprint=HOSTILE, answers_for=3,
        control={"gain": -1.5, "low": None, "high": 0.25, "unit": HOSTILE, "note": HOSTILE},
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """The pages of an eventful run, of one that has only begun, and of one with hostile texts."""
    folders = {
        "eventful": eventful(tmp_path_factory.mktemp("eventful")),
        "begun": write_run(tmp_path_factory.mktemp("begun"), classes=None),
        "hostile": hostile(tmp_path_factory.mktemp("hostile")),
    }
    return {name: make(folder, folder.path.parent / "page") for name, folder in folders.items()}


def test_a_run_that_waits_is_told_in_words(pages: dict[str, Made]) -> None:
    assert pages["eventful"].lead == (
        "The run waits for 2 answers of round 3 (queries/round-003.csv). 3 rounds of training are done; 13 of 100 "
        "samples labeled (13.0 %), 1 rejected, 1 without an answer since earlier rounds. val_acc is 0.625 with 13 "
        "labels; it began at 0.5 with 4, and its highest was 0.75 with 9. Training took 6.0 s, querying 1.5 s. The "
        "cost spent is 14.25. 1 answer came late, 1 answer was corrected."
    )
    outline = pages["eventful"].outline
    assert {"class": "verdict waiting"} in outline.named("div")
    assert outline.row("queries/round-003.csv") == ["3", "2", "round 3"]
    assert outline.row("queries/round-002.csv") == ["2", "1", "the round after they come"]
    assert "lightning-al pool import" in outline.text()


def test_a_run_that_ended_says_why(tmp_path: Path) -> None:
    folder = eventful(tmp_path, finished=True, reason="val_acc reached 0.75 (target 0.7) with 9 labels.")
    made = make(folder, tmp_path / "page")
    assert made.lead.startswith("The run has ended: val_acc reached 0.75 (target 0.7) with 9 labels. 3 rounds")
    assert "The run has ended Val_acc reached 0.75 (target 0.7)" in made.outline.text()
    assert made.outline.row("Why it ended") == ["val_acc reached 0.75 (target 0.7) with 9 labels."]
    assert "--ckpt_path last" not in made.outline.text()


def test_late_answers_hold_nothing_up(tmp_path: Path) -> None:
    made = make(eventful(tmp_path, answers_for=4), tmp_path / "page")
    assert made.lead.startswith("The run is not finished, and no answer that is missing holds it up. 3 rounds")
    assert "3 without an answer since earlier rounds" in made.lead


def test_a_run_that_has_only_begun_has_a_page(pages: dict[str, Made]) -> None:
    made = pages["begun"]
    assert made.lead == (
        "The run is not finished, and no answer that is missing holds it up. No rounds of training are done; 0 of 100 "
        "samples labeled (0.0 %), none rejected. The run has logged no metric to draw."
    )
    text = made.outline.text()
    assert all(each in text for each in ("No sample is labeled yet", "No round is done yet", "No answer came late"))
    assert made.outline.named("img") == []


def test_one_round_and_rounds_without_metrics(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", history=[round_row(0, 4, {"val_loss": float("nan"), "val_f1": 0.25})])
    made = make(one, tmp_path / "a")
    assert "val_f1 is 0.25 with 4 labels, its only value so far." in made.lead
    assert made.outline.row("0") == ["4", "96", "0", "0", "0.25", "2.0 s", "0.5 s"]
    none = make(write_run(tmp_path / "none", history=[round_row(0, 4), round_row(1, 8)]), tmp_path / "b")
    assert "The run has logged no metric to draw." in none.lead
    assert none.outline.row("1") == ["8", "92", "0", "0", "2.0 s", "0.5 s"]


def test_rounds_are_a_table_with_costs(pages: dict[str, Made]) -> None:
    outline = pages["eventful"].outline
    head = next(row for row in outline.rows if row[0] == "Round")
    assert head[5:] == ["val_acc", "val_loss", "Cost spent", "Fit", "Query"]
    assert outline.row("1") == ["9", "91", "1", "1", "0.75", "0.75", "9.50", "2.0 s", "0.5 s"]
    assert outline.row("0")[-3:] == ["not measured", "2.0 s", "0.5 s"]


def test_the_metric_that_is_asked_for_goes_first(tmp_path: Path) -> None:
    folder = eventful(tmp_path)
    made = make(folder, tmp_path / "a", metric="val_loss")
    assert "val_loss is 1 with 13 labels; it began at 1.25 with 4, and its lowest was 0.75 with 9." in made.lead
    titles = [data for tag, data in made.outline.texts if tag == "h3" and data.endswith("against labels")]
    assert titles == ["val_loss against labels", "val_acc against labels"]
    assert "; it began at 1.25 with 4, its highest." in (
        make(folder, tmp_path / "b", metric="val_loss", higher_is_better=True).lead
    )
    with pytest.raises(ActiveLearningError, match=r"got 'f1'; it logged val_acc, val_loss\.$"):
        make(folder, tmp_path / "c", metric="f1")


def test_classes_are_counted_and_compared_with_chance(pages: dict[str, Made], tmp_path: Path) -> None:
    outline = pages["eventful"].outline
    # crop: 0, 2, 16, 15; weed: 3, 10, 11, 12, 20, 21; soil: 13 and 22 at random, and 1 since it was corrected
    # 0 of 2: the Wilson interval ends at z^2 / (2 + z^2) = 3.841 / 5.841
    assert outline.row("crop") == ["4", "30.8 %", "0", "0 % [0, 66]"]
    assert outline.row("weed") == ["6", "46.2 %", "0", "0 % [0, 66]"]
    assert outline.row("soil") == ["3", "23.1 %", "2", "100 % [34, 100]"]
    own = write_run(tmp_path, rows=[answer(1, 0, None), answer(2, 0, None), answer(3, 0, 1), answer(4, 0, 0.5)])
    made = make(own, tmp_path / "page")
    assert "2 labels are the dataset’s own: the ledger does not repeat them" in made.outline.text()
    assert "1 label is no single class" in made.outline.text()
    assert made.outline.row("weed") == ["1", "100.0 %"]
    assert "The classes of the unlabeled pool are not known" in made.outline.text()


def test_who_asked_and_what_became_of_it(pages: dict[str, Made]) -> None:
    outline = pages["eventful"].outline
    assert outline.row("first labels") == ["3", "0", "0"]
    assert outline.row("Margin") == ["7", "1", "3"]
    assert outline.row("drawn at random (control)") == ["2", "0", "0"]
    assert outline.row("by hand") == ["1", "0", "0"]
    assert outline.row("14") == ["1", "Margin", "photos/14.png", "2026-01-02 03:04:14 UTC"]
    assert outline.row("15") == ["1", "2", "crop", "2026-01-02 03:04:15 UTC"]
    corrected = [row for row in outline.rows if row[:3] == ["1", "weed", "soil"]]
    assert corrected == [["1", "weed", "soil", "2", "2026-01-02 03:04:01 UTC"]]


def test_a_gain_over_chance_is_shown_with_its_interval_or_said_not_to_be_measured(
    pages: dict[str, Made], tmp_path: Path
) -> None:
    assert "Gain of the strategy over chance not measured" in pages["eventful"].outline.text()
    assert "not measured in this run." in pages["eventful"].outline.text()  # though samples were drawn at random
    assert "none of its samples were drawn at random (control_fraction)" in pages["begun"].outline.text()
    given = {"gain": 1.5, "low": -0.25, "high": 3.25, "unit": "points", "note": "Of val_acc."}
    folder = eventful(tmp_path, control=given)
    sentence = "The strategy gains +1.50 points [−0.25, +3.25] over samples drawn at random. Of val_acc."
    assert sentence in make(folder, tmp_path / "a").outline.text()
    (folder.path / "control.json").write_text(json.dumps({**given, "gain": -2.0, "low": None}))
    assert "The strategy gains −2.00 points [−∞, +3.25]" in make(folder, tmp_path / "b").outline.text()
    for content, message in (("{", "cannot be read"), ('{"gain": "1"}', "Expected `gain` in .* but got '1'")):
        (folder.path / "control.json").write_text(content)
        with pytest.raises(RunFolderError, match=message):
            make(folder, tmp_path / "c")


def test_sheets_of_many_rounds_are_folded_away(tmp_path: Path) -> None:
    queries = {(n, 1): RecordedQuery([n], None, "Margin") for n in range(1, 200)}
    history = [round_row(n, n + 1, {"val_acc": n / 200}) for n in range(200)]
    rows = [answer(n, n, n % 3) for n in range(200)]
    made = make(write_run(tmp_path, history=history, queries=queries, rows=rows, pool_size=1000), tmp_path / "page")
    assert len(made.outline.named("img")) == 199
    folded = made.html[made.html.index("<summary>Earlier: rounds 1 to 195, 195 sheets") :].split("</details>")[0]
    assert folded.count("<img") == 195
    assert made.outline.row("199")[0] == "200"
    assert made.outline.row("0")[0] == "1"
    table = made.html[made.html.index("<summary>Earlier: rounds 0 to 159") :].split("</details>")[0]
    assert table.count('<th scope="row">') == 160
    assert made.path.stat().st_size < 6_000_000
    assert all("open" not in attributes for attributes in made.outline.named("details"))


def test_no_picture_from_outside_and_no_damaged_one_is_shown(tmp_path: Path) -> None:
    folder = eventful(tmp_path)
    sheet = write_sheet(folder, 1)
    secret = sheet.rename(tmp_path / "secret.png")
    sheet.symlink_to(secret)
    cut = write_sheet(folder, 2)
    cut.write_bytes(cut.read_bytes()[:-100])
    alts = [image["alt"] or "" for image in make(folder, tmp_path / "page").outline.named("img")]
    assert [alt.split(":")[0] for alt in alts] == ["Round 3", "Round 1, in place of what was rejected"]


def test_a_run_is_only_read_even_while_it_is_on(tmp_path: Path) -> None:
    folder = eventful(tmp_path)
    with folder.ledger_path.open("ab") as file:
        file.write(b"40,3,Margin,,1,20")  # another process is writing it
    folder.lock()

    def content() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}

    before = content()
    with folder.lock_answers():
        before |= content()
        with pytest.warns(UserWarning, match="was cut short"):
            made = make(folder, tmp_path / "page")
    assert "13 of 100 samples labeled" in made.lead
    assert content() == before
    with pytest.warns(UserWarning, match="was cut short"):
        assert make_run_report(folder.path) == folder.path / "index.html"


@pytest.mark.parametrize("name", ["eventful", "begun", "hostile"])
def test_headings_links_tables_and_pictures_are_sound(pages: dict[str, Made], name: str) -> None:
    html, outline = pages[name].html, pages[name].outline
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    assert len(set(ids)) == len(ids)
    assert all((link["href"] or "")[1:] in ids for link in outline.named("a"))
    assert all(len(image["alt"] or "") > 20 for image in outline.named("img"))
    for svg in outline.named("svg"):
        named = (svg.get("aria-labelledby") or "").split()
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and len(named) == 2 and set(named) <= set(ids))
    for table in re.findall(r"<table.*?</table>", html, re.DOTALL):
        assert len({len(row) for row in Outline(table).rows}) == 1, table[:300]


def test_hostile_texts_stay_texts(pages: dict[str, Made]) -> None:
    html, outline = pages["hostile"].html, pages["hostile"].outline
    assert {tag for tag, _ in outline.tags}.isdisjoint({"script", "iframe", "object", "embed", "form"})
    assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in outline.named("img"))
    shown = " ".join(wording.plain(HOSTILE).split())
    for tag in ("td", "th", "h1", "h3", "dt", "title", "desc", "figcaption", "p"):
        assert shown in " ".join("".join(data for opened, data in outline.texts if opened == tag).split()), tag
    assert "\x00" not in html
    assert "\u202e" not in html
    assert "49" not in "".join(data for tag, data in outline.texts if tag in ("td", "p"))  # {{ 7*7 }} was not run
    policy = next(each for each in outline.named("meta") if each.get("http-equiv"))
    assert (policy["content"] or "").startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert re.findall(r"url\((?!#)|@import", html) == []


def test_banners_stand_out(pages: dict[str, Made]) -> None:
    for standing in ("ended", "waiting", "going"):
        found = re.search(rf"\.verdict\.{standing} \{{ background: #(\w\w)(\w\w)(\w\w)", pages["begun"].html)
        assert found
        channels = [int(each, 16) / 255 for each in found.groups()]
        linear = [((each + 0.055) / 1.055) ** 2.4 if each > 0.04045 else each / 12.92 for each in channels]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 4.5, standing


@needs_chromium
@pytest.mark.parametrize("name", ["eventful", "begun", "hostile"])
def test_a_browser_shows_it_without_error_or_request(pages: dict[str, Made], name: str, tmp_path: Path) -> None:
    seen = browse(pages[name].path, tmp_path / "profile")
    assert seen.console == []
    assert seen.requests == set()
    dom, outline = Outline(seen.dom), pages[name].outline
    assert [tag for tag, _ in dom.tags] == [tag for tag, _ in outline.tags]  # nothing had to be mended or was run
    assert dom.text() == outline.text()


@needs_chromium
@pytest.mark.parametrize("name", ["eventful", "hostile"])
def test_a_phone_shows_it_without_scrolling_sideways(pages: dict[str, Made], name: str, tmp_path: Path) -> None:
    html = pages[name].html
    wide = html.replace("<main>", '<main><div style="width: 500px">wide</div>')  # the check sees what is too wide
    frames = ""
    for which, page in (("page", html), ("wide", wide)):
        measure = "const page = this.contentDocument.documentElement; "
        measure += f"document.title += ' {which}:' + (page.scrollWidth > page.clientWidth)"
        frames += f'<iframe width="360" height="800" onload="{escape(measure)}" srcdoc="{escape(page)}"></iframe>'
    (tmp_path / "phone.html").write_text(f"<!DOCTYPE html><title>x</title>{frames}")
    title = browse(tmp_path / "phone.html", tmp_path / "profile").dom.split("</title>")[0]
    assert set(title.split()[-2:]) == {"page:false", "wide:true"}


def test_the_command_makes_the_page_of_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = eventful(tmp_path)
    main(["report", str(folder.path), "--output", str(tmp_path / "page")])
    printed = capsys.readouterr().out
    assert printed.startswith("The run waits for 2 answers of round 3")
    assert printed.endswith(f"The report: {tmp_path / 'page' / 'index.html'}\n")
    with pytest.raises(SystemExit, match=r"--delta 1.0` is the bar of a study"):
        main(["report", str(folder.path), "--delta", "1"])
    with pytest.raises(SystemExit, match=rf"there is no {tmp_path}/run\.json\. Do you mean {folder.path}\?"):
        main(["report", str(tmp_path)])
    with pytest.raises(SystemExit, match="is no file and no folder"):
        main(["report", str(tmp_path / "absent")])


def test_a_studys_folder_and_curves_go_to_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr("lightning_al.report.make_study_report", lambda *given: asked.append(given))
    study = tmp_path / "study"
    write_run(study)  # beside a study's files, a folder of a run does not hide them
    for name in ("feasibility.json", "curves.csv"):
        (study / name).write_text("")
        make_report(study, tmp_path / "out", "f1", 1.0, 0.2, False)
        make_report(study / name)
        assert asked == [(study, tmp_path / "out", "f1", 1.0, 0.2, False), (study / name, *[None] * 5)]
        asked.clear()
        (study / name).unlink()


def test_what_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    folder = eventful(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ActiveLearningError, match=r"The page cannot be written into .*file.*Set another output"):
        make_run_report(folder.path, tmp_path / "file")
    content = folder.ledger_path.read_text()
    folder.ledger_path.write_text(content.replace("10,1,Margin", "10,2,Margin"))
    with pytest.raises(LedgerError, match="cannot be trusted"):
        make_run_report(folder.path)
    folder.ledger_path.write_text(content)
    for change in ({"pool_size": "many"}, {"classes": 3}, {"answers_for": None}):
        folder.update_run(**change)
        with pytest.raises(RunFolderError, match=r"holds what no page can show .* If run.json was changed by hand"):
            make_run_report(folder.path, tmp_path / "page")
        folder.update_run(pool_size=100, classes=NAMES, answers_for=3)
    assert not (tmp_path / "page").exists()
