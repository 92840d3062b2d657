"""The report as one HTML page that needs nothing else: no script, no file beside it, no request."""

from __future__ import annotations

import base64
import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2
from markupsafe import Markup, escape

from lightning_al import durable
from lightning_al.study import drawing, standing, wording
from lightning_al.study.drawing import Figure
from lightning_al.study.study_figures import draw_figures

Sheet = tuple[str, Path, str]
"""Title, PNG and alt text of a contact sheet."""

SHEETS_BYTES = 1_500_000
"""What all contact sheets may take together, so that the page can still be sent by mail."""

_SHEET_STEPS = ((1000, 85), (800, 80), (600, 70), (440, 60), (300, 50))
"""Width and JPEG quality of the sheets: the first at which they fit."""

_MEANINGS = {
    "delta": "least worthwhile gain (delta)",
    "saving": "least worthwhile share of labels saved (saving)",
    "initial": "first labels (initial)",
    "query_size": "labels a round (query_size)",
    "buckets": "buckets of the random design",
    "seeds": "training seeds of the random design",
}
"""Settings whose names alone tell a stranger little."""

_THEME = {
    drawing.INK: "var(--ink)",
    drawing.MUTED: "var(--muted)",
    drawing.GRID: "var(--line)",
    drawing.PAPER: "var(--card)",
    drawing.GREY: "var(--grey)",
    drawing.BLUE: "var(--blue)",
    drawing.VERMILLION: "var(--vermillion)",
    drawing.GREEN: "var(--green)",
    drawing.PURPLE: "var(--purple)",
    drawing.ORANGE: "var(--orange)",
    drawing.SKY: "var(--sky)",
}


def write_page(report: Mapping[str, Any], folder: Path) -> Path:
    """Draws the figures and writes ``index.html``.

    Args:
        report: The report, as ``feasibility.json`` holds it.
        folder: Where to. Contact sheets are read from it, at the paths that the report names.

    Returns:
        The path of the page.

    Raises:
        OSError: A file cannot be written.
    """
    figures = draw_figures(report, folder)
    path = folder / "index.html"
    page = render(report, figures, _sheets(report, folder))
    durable.write_atomically(path, page.encode())
    return path


def render(report: Mapping[str, Any], figures: Sequence[Figure], sheets: Sequence[Sheet]) -> str:
    """Writes the page.

    Args:
        report: The report, as ``feasibility.json`` holds it; parts that are None do not appear.
        figures: What `draw_figures` gave for it.
        sheets: Contact sheets; they are made smaller where they are large.

    Returns:
        The HTML.

    Raises:
        OSError: A figure or sheet cannot be read.
    """
    report = wording.plain(report)
    # after a proxy, the comparison with the full model is the one that decided
    deciding = {**report, **(report.get("confirm") or {})}
    article = [each for each in figures if each.name.startswith("article_")]
    page: str = _template().render(
        r=report,
        d=deciding,
        best=standing.best_strategy(deciding),
        answer=standing.answer(deciding),
        unsettled=standing.is_open(deciding),
        saves="What it might save: not established" if standing.is_open(deciding) else "What it would save",
        digits=wording.decimals(report),
        figures=[(each, inlined(each)) for each in figures if each not in article],
        article=[(each, inlined(each)) for each in article],
        sheets=embedded([(wording.plain(title), path, wording.plain(alt)) for title, path, alt in sheets]),
    )
    return page


@functools.cache
def _template() -> jinja2.Template:
    environment = page_environment()
    environment.globals.update(FLAGS=wording.FLAGS, MEANINGS=_MEANINGS, NOISELESS=wording.NOISELESS)
    return environment.get_template("report.html.jinja")


def page_environment(package: str = "lightning_al.study") -> jinja2.Environment:
    """Makes what renders the pages of this package: every text is escaped, and numbers read alike.

    Args:
        package: Whose templates come before those that the pages share.

    Returns:
        The environment, with the functions of `wording` that write numbers.
    """
    loaders = [jinja2.PackageLoader(each) for each in dict.fromkeys((package, "lightning_al.study"))]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_kept_together,
        undefined=jinja2.ChainableUndefined,  # a part that is absent reads like one that is None
    )
    environment.filters.update(words=wording.words, setting=_setting, code=_code)
    for write in (wording.number, wording.interval, wording.estimate, wording.share, wording.p_value, wording.price):
        environment.globals[write.__name__] = _absent_is_none(write)
    environment.globals.update(NOT_MEASURED=wording.NOT_MEASURED)
    return environment


def _kept_together(value: Any) -> Any:
    """No line ends between a number and its percent sign."""
    return value.replace(" %", "\u00a0%") if isinstance(value, str) else value


def _absent_is_none(write: Callable[..., str]) -> Callable[..., str]:
    def written(*values: Any, **options: Any) -> str:
        return write(*(None if isinstance(value, jinja2.Undefined) else value for value in values), **options)

    return written


def _setting(value: Any) -> str:
    """A setting as its reader would write it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_setting(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_setting, value))
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _code(text: str) -> Markup:
    """A sentence with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def inlined(figure: Figure) -> Markup:
    """Makes a figure's SVG a part of an HTML page: themed, named, and with ids that no other figure has.

    Args:
        figure: The figure.

    Returns:
        The SVG.

    Raises:
        OSError: Its file cannot be read.
    """
    path = next(each for each in figure.paths if each.suffix == ".svg")
    root = ElementTree.fromstring(path.read_bytes())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):  # its style would hold for the whole page
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            key.rpartition("}")[2]: _themed(key.rpartition("}")[2], value, figure.name)
            for key, value in element.attrib.items()
        }
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib.update({"role": "img", "aria-labelledby": f"{figure.name}-title {figure.name}-desc", "class": "plot"})
    for place, (tag, text) in enumerate((("title", figure.title), ("desc", figure.alt))):
        named = ElementTree.Element(tag, {"id": f"{figure.name}-{tag}"})
        named.text = wording.plain(text)
        root.insert(place, named)
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # its texts are escaped by ElementTree


def _themed(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return f"{prefix}-{value}"
    if key == "href":
        return value.replace("#", f"#{prefix}-", 1)
    value = value.replace("url(#", f"url(#{prefix}-")
    if key == "style":
        value = re.sub(r"#[0-9a-f]{6}", lambda match: _THEME.get(match[0], match[0]), value)
        value = re.sub(r"font: (?:\w+ )?([\d.]+px)[^;]*", r"font-size: \1", value)  # the page's own letters
    return value


def _sheets(report: Mapping[str, Any], folder: Path) -> list[Sheet]:
    sheets = []
    for each in (report.get("pathology") or {}).get("by_strategy") or ():
        path = (folder / str(each.get("sheet") or "")).resolve()
        # a report from elsewhere shows no picture from outside its folder
        if each.get("sheet") and path.is_file() and path.is_relative_to(folder.resolve()):
            alt = f"The samples that {each['name']} asked for first, in the order picked. {_junk(each)}"
            sheets.append((each["name"], path, alt.strip()))
    return sheets


def _junk(each: Mapping[str, Any]) -> str:
    junk = each.get("junk") or {}
    if junk.get("share") is None:
        return ""
    return (
        f"{100 * junk['share']:.1f} % of its picks look like junk, {100 * (junk.get('pool') or 0):.1f} % of the pool."
    )


def embedded(sheets: Sequence[Sheet], limit: int = SHEETS_BYTES) -> list[dict[str, Any]]:
    """Makes contact sheets a part of an HTML page: JPEG in data URIs, all of the same scale.

    Args:
        sheets: The sheets.
        limit: Bytes that they may take together. The smallest scale is taken where none is small enough.

    Returns:
        Of each ``title``, ``alt``, ``size`` and ``uri``.

    Raises:
        OSError: A sheet cannot be read.
    """
    encoded: list[tuple[tuple[int, int], bytes]] = []
    for step in _SHEET_STEPS:
        encoded, taken = [], 0
        for _, path, _ in sheets:  # one after the other: hundreds of them would not fit in memory
            encoded.append(_smaller(path, *step))
            taken += len(encoded[-1][1])
            if taken > limit and step != _SHEET_STEPS[-1]:
                break
        if taken <= limit:
            break
    return [
        {"title": title, "alt": alt, "size": size, "uri": "data:image/jpeg;base64," + base64.b64encode(data).decode()}
        for (title, _, alt), (size, data) in zip(sheets, encoded, strict=True)
    ]


def _smaller(path: Path, width: int, quality: int) -> tuple[tuple[int, int], bytes]:
    """Size and JPEG of a sheet that is no wider."""
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((width, 2 * width))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality, optimize=True)
    return picture.size, data.getvalue()
