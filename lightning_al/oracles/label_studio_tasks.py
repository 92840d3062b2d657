"""What Label Studio shows, and what its annotations mean; pure."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

import numpy as np

from lightning_al.exceptions import AnswersError
from lightning_al.figures import _pixels, _stretched

_MIN_SIDE, _MAX_SIDE = 256, 768
"""Pixels of a picture: smaller ones are enlarged, larger ones thinned out."""

_MAX_TEXT = 4000
_TARGETS = ("label", "labels", "target", "targets", "y")
_REJECTED = object()

Kind = Literal["image", "text"]


@dataclass(frozen=True)
class Form:
    """What a project asks: one choice for each sample.

    Args:
        control: Name of the tag whose choice is the class.
        shown: Name of the tag that shows the sample.
        key: Where in a task's data the sample stands.
        kind: What it shows.
    """

    control: str
    shown: str
    key: str
    kind: Kind


def label_config(classes: Sequence[str], kind: Kind) -> str:
    """The labeling interface of a new project.

    Args:
        classes: The names of the classes.
        kind: What the samples are.

    Returns:
        XML in Label Studio's tags.

    Examples:
        >>> print(label_config(["crop", "<weed>"], "image"))
        <View>
          <Header value="$caption" size="5"/>
          <Image name="sample" value="$image" zoom="true"/>
          <Choices name="label" toName="sample" choice="single-radio" required="true">
            <Choice value="crop"/>
            <Choice value="&lt;weed&gt;"/>
          </Choices>
        </View>
    """
    tags = {"image": '<Image name="sample" value="$image" zoom="true"/>', "text": '<Text name="sample" value="$text"/>'}
    lines = [
        "<View>",
        '  <Header value="$caption" size="5"/>',
        f"  {tags[kind]}",
        '  <Choices name="label" toName="sample" choice="single-radio" required="true">',
        *(f"    <Choice value={quoteattr(name)}/>" for name in classes),
        "  </Choices>",
        "</View>",
    ]
    return "\n".join(lines)


def form_of(config: Mapping[str, Any], classes: Sequence[str], where: str) -> Form:
    """How to ask in a project that is there.

    Args:
        config: Its configuration as Label Studio gives it, a mapping from the name of a tag.
        classes: The names of the classes, all of which it has to offer.
        where: What messages call the project.

    Raises:
        AnswersError: It offers no choice, or not all classes.

    Examples:
        >>> tag = {"type": "Choices", "to_name": ["s"], "inputs": [{"type": "Image", "value": "image"}]}
        >>> form_of({"label": tag | {"labels": ["crop", "weed"]}}, ["crop", "weed"], "project 1")
        Form(control='label', shown='s', key='image', kind='image')
    """
    offered: list[str] = []
    for name, tag in config.items():
        inputs = tag.get("inputs") or []
        if tag.get("type") != "Choices" or not inputs:
            continue
        offered = [str(each) for each in tag.get("labels") or []]
        if set(classes) <= set(offered):
            kind: Kind = "image" if inputs[0].get("type") == "Image" else "text"
            return Form(name, tag["to_name"][0], inputs[0]["value"], kind)
    lacking = next((name for name in classes if name not in offered), "")
    raise AnswersError(
        f"Expected {where} to have one <Choices> with all {len(classes)} classes, but it "
        f"{f'lacks {lacking!r}' if offered else 'has none'}: add that in its settings, or give another `project`."
    )


def kind_of(sample: Any) -> Kind:
    """Whether a sample is a picture."""
    return "text" if _pixels(sample) is None else "image"


def shown_value(sample: Any, kind: Kind, path: str | None) -> str:
    """A sample as it stands in a task: a picture as a PNG within a `data:` address, else its text, numbers or path.

    Only the input of an (input, target) pair is shown, and of a dict all but what is called a label or a target.

    Args:
        sample: What the dataset gives.
        kind: What the project shows.
        path: The sample's file, which is never opened.

    Raises:
        AnswersError: The project shows pictures, and this is none.

    Examples:
        >>> shown_value(("some text", 1), "text", None)
        'some text'
        >>> shown_value(np.zeros((8, 8), dtype=np.uint8), "image", None)[:22]
        'data:image/png;base64,'
    """
    pixels = _pixels(sample)
    if kind == "image":
        if pixels is None:
            raise AnswersError(
                f"Label Studio's project shows images, and this sample is none: {type(sample).__name__}. Give another "
                "`project`, whose configuration shows text."
            )
        return _data_uri(_stretched([pixels])[0])
    text = None if pixels is not None else _text(sample)
    return (text if text is not None else path or f"a {type(sample).__name__}")[:_MAX_TEXT] or "(empty)"


def task(
    form: Form,
    value: str,
    asked: Mapping[str, Any],
    guess: tuple[str, float] | None,
    version: str,
) -> dict[str, Any]:
    """A sample as a task to upload.

    Args:
        form: How the project asks.
        value: The sample as it is shown.
        asked: What else the task's data hold: ``run``, ``round``, ``dataset_index``, ``caption``, ``score``.
        guess: The class that the model takes it for, with its probability.
        version: What Label Studio calls the model.
    """
    made: dict[str, Any] = {"data": {**asked, form.key: value}}
    if guess is not None:
        name, confidence = guess
        choice = {"from_name": form.control, "to_name": form.shown, "type": "choices", "value": {"choices": [name]}}
        made["predictions"] = [{"model_version": version, "score": confidence, "result": [choice]}]
    return made


@dataclass(frozen=True)
class Verdict:
    """What the annotations of a task say together.

    Args:
        label: The index of the class; None where there is none.
        rejected: Whether it was skipped.
        problem: Why people have to look again, where they do.
    """

    label: int | None = None
    rejected: bool = False
    problem: str | None = None

    @property
    def pending(self) -> bool:
        """Whether there is no answer yet."""
        return self.label is None and not self.rejected


def verdict(annotations: Sequence[Mapping[str, Any]], control: str, classes: Sequence[str], annotators: int) -> Verdict:
    """What most people say: a class, or that they skip it; each has one vote, the last that they gave.

    Args:
        annotations: As Label Studio gives them.
        control: Name of the tag whose choice is the class.
        classes: The names of the classes by index.
        annotators: How many people have to answer before their votes are counted.

    Returns:
        Pending where there are too few votes, or no most frequent one. What is no class of ours is no vote.

    Examples:
        >>> def by(person, *names, **more):
        ...     value = {"from_name": "label", "value": {"choices": [*names]}}
        ...     return {"id": person, "completed_by": person, "result": [value] if names else [], **more}
        >>> verdict([by(1, "weed"), by(2, "crop"), by(3, "weed")], "label", ["crop", "weed"], 3)
        Verdict(label=1, rejected=False, problem=None)
        >>> verdict([by(1, was_cancelled=True)], "label", ["crop", "weed"], 1).rejected
        True
        >>> verdict([by(1, "weed"), by(2, "crop")], "label", ["crop", "weed"], 2).problem
        "2 people disagree ('crop', 'weed'): one more has to decide"
    """
    last: dict[Any, Mapping[str, Any]] = {}
    for annotation in sorted(annotations, key=_when):
        last[_person(annotation)] = annotation
    votes: list[Any] = []
    problem = None
    for annotation in last.values():
        if annotation.get("was_cancelled"):
            votes.append(_REJECTED)
            continue
        chosen = _chosen(annotation, control)
        if len(chosen) == 1 and chosen[0] in classes:
            votes.append(chosen[0])
        elif len(chosen) == 1:
            problem = f"it was given the class {chosen[0]!r}, which is not known"
        else:
            problem = f"an annotation has {len(chosen) or 'no'} classes{f' {chosen}' if chosen else ''}, not one"
    if len(votes) < annotators or not votes:
        return Verdict(problem=problem)
    (first, most), *others = Counter(votes).most_common()
    if others and others[0][1] == most:
        told = ", ".join(sorted("skipped" if vote is _REJECTED else repr(vote) for vote in set(votes)))
        return Verdict(problem=f"{len(votes)} people disagree ({told}): one more has to decide")
    if first is _REJECTED:
        return Verdict(rejected=True)
    return Verdict(label=list(classes).index(first))


def _when(annotation: Mapping[str, Any]) -> tuple[str, int]:
    return str(annotation.get("updated_at") or ""), int(annotation.get("id") or 0)


def _person(annotation: Mapping[str, Any]) -> Any:
    person = annotation.get("completed_by")
    if isinstance(person, Mapping):
        person = person.get("id")
    return ("annotation", annotation.get("id")) if person is None else person


def _chosen(annotation: Mapping[str, Any], control: str) -> list[str]:
    results = [each for each in annotation.get("result") or [] if each.get("from_name") == control]
    return [str(choice) for each in results for choice in (each.get("value") or {}).get("choices") or []]


def _data_uri(pixels: Any) -> str:
    from matplotlib.image import imsave

    larger = max(1, -(-_MIN_SIDE // max(pixels.shape[:2])))
    thinner = -(-max(pixels.shape[:2]) // _MAX_SIDE)
    shown = np.clip(pixels[::thinner, ::thinner].repeat(larger, axis=0).repeat(larger, axis=1), 0, 1)
    file = io.BytesIO()
    imsave(file, shown, format="png", cmap="gray", vmin=0, vmax=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _text(sample: Any) -> str | None:
    if isinstance(sample, str):
        return sample
    if isinstance(sample, Mapping):
        return "\n".join(f"{key}: {_text(value)}" for key, value in sample.items() if key not in _TARGETS)
    if isinstance(sample, (tuple, list)) and sample and not isinstance(sample[0], (int, float)):
        return _text(sample[0])
    if hasattr(sample, "tolist"):
        sample = sample.tolist()
    return ", ".join(f"{x:.6g}" if isinstance(x, float) else str(x) for x in _flat(sample))


def _flat(value: Any) -> list[Any]:
    return [each for part in value for each in _flat(part)] if isinstance(value, (list, tuple)) else [value]
