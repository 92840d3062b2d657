"""Kinds of output with several predictions a sample, and draws of a model, against loops over single numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_al.exceptions import ScoringError
from lightning_al.predictions import NotFiniteError
from lightning_al.strategies import Entropy, LeastConfidence, Margin
from lightning_al.strategies.base import Needs, ScoreStrategy
from tests.test_scoring import DATA, POOL, score

SAMPLES = frozenset({"samples"})


class Disagreement(ScoreStrategy):
    """The variance over draws of the first class's probability."""

    needs = Needs(pool=SAMPLES)

    def score(self, samples: Tensor) -> Tensor:
        assert samples.ndim == 3
        return samples[:, :, 0].var(dim=1, correction=0)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def entropy(probs: list[float]) -> float:
    return -sum(p * math.log(p) for p in probs if p > 0)


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def reduced(scores: list[float], how: Any) -> float:
    if not scores:
        return 0.0
    if isinstance(how, float):
        scores, how = sorted(scores)[-math.ceil(how * len(scores)) :], "mean"
    return {"mean": sum(scores) / len(scores), "max": max(scores), "sum": sum(scores)}[how]


# -- multi-label
@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("how", [None, "mean", "max", "sum", 0.5])
def test_labels_are_scored_each_as_yes_or_no(how: Any, batch_size: int) -> None:
    scored = score(lambda x: x[:, :4], Entropy(how), kind="multilabel", batch_size=batch_size)
    wanted = []
    for index in POOL.tolist():
        ps = [sigmoid(v) for v in DATA[index, :4].tolist()]
        wanted.append(reduced([entropy([p, 1 - p]) for p in ps], how or "mean"))
    assert scored.scores.tolist() == pytest.approx(wanted, abs=1e-6)
    assert scored.outputs.probs is None


def test_the_nearest_to_one_half_is_the_largest_margin_score() -> None:
    scored = score(lambda x: x[:, :4], Margin("max"), kind="multilabel")
    nearest = [min(abs(sigmoid(v) - 0.5) for v in DATA[i, :4].tolist()) for i in POOL.tolist()]
    assert scored.scores.tolist() == pytest.approx([1 - 2 * each for each in nearest], abs=1e-6)


def test_one_label_is_enough() -> None:
    assert score(lambda x: x[:, :1], Margin(), kind="multilabel").scores.shape == (7,)


# -- dense
def maps(x: Tensor) -> Tensor:
    """Logits of 3 classes on 2 x 2 pixels."""
    return torch.stack([x[:, :4] * k for k in (1.0, -1.0, 0.5)], dim=1).reshape(-1, 3, 2, 2)


def pixel_entropies(index: int) -> list[float]:
    return [entropy(softmax([v, -v, 0.5 * v])) for v in DATA[index, :4].tolist()]


@pytest.mark.parametrize("how", [None, "max", "sum", 0.3])
def test_pixels_are_scored_each(how: Any) -> None:
    scored = score(maps, Entropy(how), kind="dense")
    wanted = [reduced(pixel_entropies(i), how or "mean") for i in POOL.tolist()]
    assert scored.scores.tolist() == pytest.approx(wanted, abs=1e-6)


def test_masked_places_do_not_count_and_an_empty_sample_has_zero() -> None:
    def mask(x: Tensor) -> Tensor:
        return (x[:, :4] > 0).reshape(-1, 2, 2)

    scored = score(lambda x: {"logits": maps(x), "mask": mask(x)}, Entropy(), kind="dense")
    wanted = []
    for index in POOL.tolist():
        kept = [e for e, v in zip(pixel_entropies(index), DATA[index].tolist(), strict=False) if v > 0]
        wanted.append(reduced(kept, "mean"))
    assert scored.scores.tolist() == pytest.approx(wanted, abs=1e-6)
    nothing = score(lambda x: {"logits": maps(x), "mask": torch.zeros(len(x), 2, 2, dtype=torch.bool)}, Entropy(),
                    kind="dense")  # fmt: skip
    assert nothing.scores.tolist() == [0] * 7


def test_tokens_of_padded_sequences_are_normalised_by_length() -> None:
    """Two sequences of the same tokens, one of them twice as long: the same score."""
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]).movedim(-1, 1)  # (1, C, T)
    twice = torch.cat([logits, logits], dim=-1)
    padded = torch.cat([logits, torch.full_like(logits, 9.0)], dim=-1)
    both = torch.cat([padded, twice])
    mask = torch.tensor([[True, True, False, False], [True] * 4])

    def step(x: Tensor) -> dict[str, Tensor]:
        return {"logits": both, "mask": mask}

    scores = score(step, LeastConfidence(), kind="dense", indices=POOL[:2], batch_size=2).scores
    assert scores[0] == pytest.approx(float(scores[1]))
    assert scores[0] > 0


@pytest.mark.parametrize("mask", [torch.ones(3, 2, 2), torch.ones(3, 2, dtype=torch.bool), [1]])
def test_another_mask_is_refused(mask: Any) -> None:
    with pytest.raises(ScoringError, match=r"which places count, bool \(3, 2, 2\)"):
        score(lambda x: {"logits": maps(x), "mask": mask}, Entropy(), kind="dense")


# -- detection
def boxes(x: Tensor) -> list[Tensor]:
    """As many boxes as the sample's place says, the first sample none."""
    return [row[: int(abs(row[4]) * 2) % 4].sigmoid() for row in x]


@pytest.mark.parametrize("how", [None, "mean", "sum"])
def test_boxes_are_scored_each(how: Any) -> None:
    scored = score(boxes, Margin(how), kind="detection")
    wanted = []
    for row in DATA[POOL].tolist():
        ps = [sigmoid(v) for v in row[: int(abs(row[4]) * 2) % 4]]
        wanted.append(reduced([1 - abs(2 * p - 1) for p in ps], how or "max"))
    assert scored.scores.tolist() == pytest.approx(wanted, abs=1e-6)
    assert 0.0 in scored.scores.tolist(), "an image without a box has the score 0"


def test_boxes_with_class_probabilities() -> None:
    scored = score(lambda x: [row[:4].reshape(2, 2).softmax(-1) for row in x], Entropy(), kind="detection")
    wanted = []
    for row in DATA[POOL].tolist():
        wanted.append(max(entropy(softmax(row[:2])), entropy(softmax(row[2:4]))))
    assert scored.scores.tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (lambda x: x, "the boxes of each image for outputs='detection', but got torch.float32"),
        (
            lambda x: [row[None, None] for row in x],
            r"of an image's boxes, but got torch.float32 \(1, 1, 5\)",
        ),
        (lambda x: [torch.full((1, 2), 0.9) for _ in x], r"no distribution: .* sum to 1.8.* or return one score a box"),
        (lambda x: [1] * len(x), "but got a int. Return a list of one tensor an image"),
        (lambda x: [x[0]], "returned 1 rows for a batch of 3 samples"),
    ],
)
def test_other_boxes_are_refused(raw: Any, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        score(raw, Margin(), kind="detection")


# -- all of these
STEPS: dict[str, Any] = {"multilabel": lambda x: x[:, :4], "dense": maps, "detection": boxes}


@pytest.mark.parametrize("kind", list(STEPS))
@pytest.mark.parametrize("world_size", [2, 3])
def test_shards_of_several_predictions_interleave(kind: str, world_size: int) -> None:
    whole = score(STEPS[kind], Margin(), kind=kind).scores
    most = -(-7 // world_size)
    parts = []
    for rank in range(world_size):
        kept: list[Tensor] = []
        shard = POOL[rank::world_size]

        def gather(tensor: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(tensor)
            return torch.stack([tensor] * world_size)

        score(STEPS[kind], Margin(), kind=kind, rank=rank, world_size=world_size, gather=gather)
        assert kept[-1].shape == (most,)  # before it, whether all ranks are well
        parts.append(kept[-1][: len(shard)])
    for rank, part in enumerate(parts):
        torch.testing.assert_close(part, whole[rank::world_size], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", list(STEPS))
def test_a_number_that_is_none_names_its_sample(kind: str) -> None:
    def step(x: Tensor) -> Any:
        x = x.clone()
        x[x[:, 0] == DATA[19, 0]] = math.nan
        x[:, 4] = 1
        return STEPS[kind](x)

    with pytest.raises(NotFiniteError, match="dataset index 19"):
        score(step, Margin(), kind=kind)


@pytest.mark.parametrize(
    ("kind", "step", "message"),
    [
        ("multilabel", lambda x: x[:, 0], r"multilabel of shape \(B, L\), but got \(3,\)"),
        ("dense", lambda x: x[:, :3], r"dense of shape \(B, C, ...\) with C >= 2, but got \(3, 3\)"),
        ("dense", lambda x: x[:, None, :3], r"but got \(3, 1, 3\)"),
        ("logits", lambda x: maps(x), r"at each pixel or token say ActiveLearning\(outputs='dense'\)"),
        ("logits", lambda x: {"samples": x[:, :3]}, r"but got \(3, 3\)"),
        ("binary", lambda x: {"samples": x.reshape(-1, 5, 1, 1)}, r"but got \(3, 5, 1, 1\)"),
    ],
)
def test_other_shapes_are_refused(kind: str, step: Any, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        score(step, Margin(), kind=kind)


# -- draws
def ensemble(x: Tensor) -> Tensor:
    """Logits of 3 classes from 4 members."""
    return torch.stack([x[:, :3] * k for k in (0.5, 1.0, 2.0, -1.0)], dim=1)


def members(index: int) -> list[list[float]]:
    return [softmax([v * k for v in DATA[index, :3].tolist()]) for k in (0.5, 1.0, 2.0, -1.0)]


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("logits", ensemble),
        ("logits", lambda x: {"samples": ensemble(x)}),
        ("log_probs", lambda x: ensemble(x).log_softmax(-1)),
        ("probs", lambda x: {"logits": ensemble(x).softmax(-1)}),
    ],
)
def test_an_ensemble_gives_draws_and_their_mean(kind: str, step: Any) -> None:
    outputs = score(step, kind=kind, needs=frozenset({"probs", "samples"})).outputs
    wanted = torch.tensor([members(i) for i in POOL.tolist()])
    torch.testing.assert_close(outputs.samples, wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(outputs.probs, wanted.mean(1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("column", [True, False])
def test_draws_of_one_logit(column: bool) -> None:
    def step(x: Tensor) -> Any:
        return x[:, :4, None] if column else {"samples": x[:, :4]}

    outputs = score(step, kind="binary", needs=SAMPLES).outputs
    wanted = [[[1 - sigmoid(v), sigmoid(v)] for v in DATA[i, :4].tolist()] for i in POOL.tolist()]
    torch.testing.assert_close(outputs.samples, torch.tensor(wanted), atol=1e-6, rtol=0)


def test_draws_of_labels_and_of_pixels() -> None:
    def labels(x: Tensor) -> Tensor:  # (B, K, L)
        return torch.stack([x[:, :4], 2 * x[:, :4]], dim=1)

    scored = score(labels, Disagreement(), kind="multilabel", needs=SAMPLES).scores
    wanted = []
    for index in POOL.tolist():
        each = [abs(sigmoid(v) - sigmoid(2 * v)) / 2 for v in DATA[index, :4].tolist()]
        wanted.append(sum(d * d for d in each) / 4)
    assert scored.tolist() == pytest.approx(wanted, abs=1e-6)

    def pixels(x: Tensor) -> dict[str, Tensor]:
        return {"samples": torch.stack([maps(x), maps(2 * x)], dim=1)}

    scored = score(pixels, Disagreement("max"), kind="dense", needs=SAMPLES)
    wanted = []
    for index in POOL.tolist():
        pairs = [(softmax([v, -v, 0.5 * v])[0], softmax([2 * v, -2 * v, v])[0]) for v in DATA[index, :4].tolist()]
        wanted.append(max(((a - b) / 2) ** 2 for a, b in pairs))
    assert scored.scores.tolist() == pytest.approx(wanted, abs=1e-6)


class DropoutNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body, self.drop, self.head = nn.Linear(5, 16), nn.Dropout(0.5), nn.Linear(16, 3)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.head(self.drop(torch.tanh(self.body(x))))


@pytest.mark.parametrize("needs", [SAMPLES, frozenset({"samples", "probs", "embeddings"})])
def test_draws_by_dropout_are_the_same_networks_for_every_batch_and_rank(needs: frozenset[str]) -> None:
    found = []
    for batch_size in (1, 3, 100):
        net = DropoutNet().eval()
        found.append(score(net, model=net, needs=needs, batch_size=batch_size, draws=6).outputs)
    first = found[0]
    assert first.samples.shape == (7, 6, 3)
    assert all(torch.allclose(first.samples, other.samples, atol=1e-6) for other in found)
    torch.testing.assert_close(first.samples.sum(-1), torch.ones(7, 6))
    assert first.samples.std(dim=1).min() > 0.001, "the draws are different networks"
    net = DropoutNet().eval()
    if "probs" in needs:
        plain = net(DATA[POOL]).softmax(-1)
        torch.testing.assert_close(first.probs, plain, atol=1e-6, rtol=0)
        torch.testing.assert_close(first.embeddings, torch.tanh(net.body(DATA[POOL])), atol=1e-6, rtol=0)


def test_no_pass_is_made_that_nobody_reads() -> None:
    net = DropoutNet().eval()
    score(net, Disagreement(), model=net, needs=SAMPLES, batch_size=3, draws=6)
    assert net.passes == 1 + 3 * 6  # the first tells that the model returns no draws of its own


def test_a_model_without_dropout_cannot_be_drawn_from() -> None:
    with pytest.raises(ScoringError, match=r"no dropout layer.*\(B, K, C\), from `query_step`"):
        score(lambda x: x[:, :3], needs=SAMPLES)
    with pytest.raises(ScoringError, match="Draws of boxes cannot be matched"):
        score(boxes, kind="detection", needs=SAMPLES)


def test_a_member_that_is_no_distribution_is_named() -> None:
    def step(x: Tensor) -> Tensor:
        probs = ensemble(x).softmax(-1)
        probs[x[:, 0] == DATA[19, 0], 2] *= 2
        return probs

    with pytest.raises(ScoringError, match="dataset index 19 is no distribution: its probabilities sum to 2"):
        score(step, kind="probs", needs=SAMPLES)


# -- the head
HEAD = frozenset({"embeddings", "head"})


def test_the_head_leads_from_embeddings_to_logits() -> None:
    net = DropoutNet().eval()
    outputs = score(net, model=net, needs=HEAD).outputs
    torch.testing.assert_close(outputs.head(outputs.embeddings), net(DATA[POOL]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["log_probs", "binary"])
def test_the_head_of_other_kinds(kind: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.head = nn.Linear(5, 1 if kind == "binary" else 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x) if kind == "binary" else self.head(x).log_softmax(-1)

    net = Net()
    outputs = score(net, model=net, kind=kind, needs=frozenset({"probs", *HEAD})).outputs
    torch.testing.assert_close(outputs.head(outputs.embeddings).softmax(-1), outputs.probs, atol=1e-6, rtol=0)


def test_a_models_own_head_and_its_absence() -> None:
    def step(x: Tensor) -> dict[str, Any]:
        return {"logits": x[:, :3] * 2, "embeddings": x, "head": lambda z: z[:, :3] * 2}

    outputs = score(step, needs=HEAD).outputs
    assert torch.equal(outputs.head(outputs.embeddings), DATA[POOL][:, :3] * 2)
    with pytest.raises(ScoringError, match="return 'head' too"):
        score(lambda x: {"logits": x[:, :3], "embeddings": x}, needs=HEAD)


def test_a_layer_that_is_not_the_last_is_no_head() -> None:
    net = DropoutNet().eval()
    with pytest.raises(ScoringError, match="name its last layer in `embedding_layer`"):
        score(net, model=net, needs=HEAD, layer="body")
