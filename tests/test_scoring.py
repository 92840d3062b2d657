"""The pass over the pool against a loop that runs one sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_al.exceptions import ActiveLearningError, ScoringError
from lightning_al.scoring import Machine, OutputKind, look_like_probs, score_pool, to_probs
from lightning_al.strategies import Margin, Random
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy, ScoreStrategy

POOL = torch.tensor([7, 3, 19, 0, 11, 4, 16])
DATA = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
PROBS = frozenset({"probs"})
BOTH = frozenset({"probs", "embeddings"})


class Diverse(QueryStrategy):
    """Stands for a strategy that needs more than scores."""

    needs = Needs(pool=BOTH)

    def select(self, pool: Outputs, query_size: int, *, labeled: Any = None, generator: Any = None) -> Tensor:
        return torch.arange(query_size)


class Net(nn.Module):
    """Two layers, the last registered first."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.head = nn.Linear(4, classes)
        self.body = nn.Linear(5, 4)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.body(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x))


def machine(
    step: Callable[[Any], Any],
    model: nn.Module | None = None,
    *,
    batch_size: int = 3,
    rank: int = 0,
    world_size: int = 1,
    batch: Callable[[Tensor], Any] = lambda x: x,
    gather: Callable[[Tensor], Tensor] | None = None,
    known: bool = True,
) -> Machine:
    """One process, batches of three: the last one is smaller."""

    def batches(indices: Tensor) -> Iterator[Any]:
        for part in indices.split(batch_size):
            yield batch(DATA[part.long()])

    return Machine(
        model=model or nn.Identity(),
        batches=batches,
        step=lambda given, number: step(given),
        rank=rank,
        world_size=world_size,
        gather=gather or (lambda tensor: tensor.unsqueeze(0)),
        all_well=lambda well: well,
        batch_size=batch_size if known else None,
    )


@torch.no_grad()
def score(step: Any, strategy: Any = None, **options: Any) -> Any:
    kind = options.pop("kind", "logits")
    needs = options.pop("needs", PROBS)
    layer = options.pop("layer", None)
    indices = options.pop("indices", POOL)
    draws = options.pop("draws", None)
    return score_pool(
        Diverse() if strategy is None else strategy,
        indices,
        machine(step, **options),
        kind=kind,
        needs=needs,
        embedding_layer=layer,
        draws=draws,
    )


# -- probabilities
def logits_of(x: Tensor) -> Tensor:
    return x[:, :3] * 2


KINDS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[list[float]], list[float]]]] = {
    "logits": (logits_of, lambda row: softmax([2 * v for v in row[:3]])),
    "log_probs": (lambda x: logits_of(x).log_softmax(-1), lambda row: softmax([2 * v for v in row[:3]])),
    "probs": (lambda x: logits_of(x).softmax(-1), lambda row: softmax([2 * v for v in row[:3]])),
    "binary": (lambda x: x[:, 0], lambda row: softmax([0.0, row[0]])),
    "binary column": (lambda x: x[:, :1], lambda row: softmax([0.0, row[0]])),
}


def softmax(row: list[float]) -> list[float]:
    exponentials = torch.tensor(row, dtype=torch.float64).exp()
    return [float(v) for v in exponentials / exponentials.sum()]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
@pytest.mark.parametrize("kind", list(KINDS))
def test_probabilities_in_pool_order(kind: str, batch_size: int) -> None:
    step, expected = KINDS[kind]
    output_kind: Any = kind.split()[0]
    outputs = score(step, kind=output_kind, batch_size=batch_size).outputs
    rows = [expected(DATA[i].tolist()) for i in POOL.tolist()]
    torch.testing.assert_close(outputs.probs, torch.tensor(rows), atol=1e-6, rtol=0)
    assert outputs.dataset_indices.tolist() == POOL.tolist()
    assert outputs.embeddings is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    probs = score(lambda x: logits_of(x).to(dtype)).outputs.probs
    assert probs.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = logits_of(DATA[POOL]).to(dtype).double().softmax(-1)  # only the model's own rounding
    torch.testing.assert_close(probs.double(), expected, atol=1e-6, rtol=0)


def test_a_score_strategy_gives_one_float_a_sample() -> None:
    scored = score(logits_of, Margin())
    assert scored.outputs.probs is None
    expected = []
    for i in POOL.tolist():
        first, second = sorted(softmax([2 * v for v in DATA[i, :3].tolist()]), reverse=True)[:2]
        expected.append(1 - (first - second))
    torch.testing.assert_close(scored.scores, torch.tensor(expected), atol=1e-6, rtol=0)


def test_random_runs_no_model() -> None:
    def step(batch: Any) -> Any:
        raise AssertionError("no forward pass is needed")

    scored = score(step, Random(), needs=Random.needs.pool)
    assert scored.outputs.dataset_indices.tolist() == POOL.tolist()
    assert scored.scores is None


def test_to_probs_is_exact_where_it_can_be() -> None:
    assert to_probs(torch.tensor([[0.0, 0.0]]), "logits").tolist() == [[0.5, 0.5]]
    assert to_probs(torch.tensor([[0.25, 0.75]]), "probs").tolist() == [[0.25, 0.75]]
    assert to_probs(torch.tensor([[0.0], [100.0]]), "binary").tolist() == [[0.5, 0.5], [0.0, 1.0]]


# -- what the model returns, and how
@pytest.mark.parametrize(
    ("raw", "alike"),
    [
        ([[0.2, 0.8], [1.0, 0.0]], True),
        ([[0.2, 0.80009], [0.5, 0.5]], True),
        ([[0.2, 0.8002], [0.5, 0.5]], False),
        ([[0.2, 0.8], [0.5, 0.6]], False),
        ([[-0.2, 1.2], [0.5, 0.5]], False),  # sums to 1
        ([[0.0, 0.0], [0.0, 0.0]], False),  # the logits of a head that begins at zero
        ([1.0, 1.0], False),
        ([[float("nan"), 1.0]], False),
    ],
)
def test_what_looks_like_probabilities(raw: Any, alike: bool) -> None:
    for dtype in (torch.float32, torch.float64):
        assert look_like_probs(torch.tensor(raw, dtype=dtype)) is alike
        assert look_like_probs({"logits": torch.tensor(raw, dtype=dtype)}) is alike


@pytest.mark.parametrize("raw", [None, {}, (torch.ones(2, 1),), torch.empty(0, 3)])
def test_what_is_no_batch_of_rows_looks_like_nothing(raw: Any) -> None:
    assert look_like_probs(raw) is False


def test_dict_batches_and_dicts_with_embeddings() -> None:
    net = Net()

    def step(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        hidden = net.hidden(batch["pixels"])
        return {"logits": net.head(hidden), "embeddings": hidden.reshape(-1, 2, 2) * 3}

    outputs = score(step, model=net, batch=lambda x: {"pixels": x}, needs=BOTH).outputs
    for row, i in enumerate(POOL.tolist()):
        hidden = torch.tanh(net.body.weight @ DATA[i] + net.body.bias)
        torch.testing.assert_close(outputs.embeddings[row], hidden * 3)
        torch.testing.assert_close(outputs.probs[row], (net.head.weight @ hidden + net.head.bias).softmax(-1))


def test_a_model_without_a_linear_layer_may_give_embeddings_itself() -> None:
    outputs = score(lambda x: {"logits": logits_of(x), "embeddings": x[:, 3:]}, needs=BOTH).outputs
    assert torch.equal(outputs.embeddings, DATA[POOL][:, 3:])


def test_logits_in_a_dict_subclass() -> None:
    class ModelOutput(dict):
        """As Hugging Face's."""

    probs = score(lambda x: ModelOutput(logits=logits_of(x))).outputs.probs
    assert torch.equal(probs, score(logits_of).outputs.probs)


# -- several processes, played one after the other
@pytest.mark.parametrize("world_size", [2, 3, 4, 9])
@pytest.mark.parametrize("strategy", [Margin(), Diverse()])
def test_shards_interleave_to_the_single_process_result(world_size: int, strategy: Any) -> None:
    net = Net()
    needs = strategy.needs.pool
    parts: dict[int, list[Tensor]] = {rank: [] for rank in range(world_size)}
    for rank in range(world_size):

        def keep(tensor: Tensor, rank: int = rank) -> Tensor:
            parts[rank].append(tensor)
            return tensor.unsqueeze(0).expand(world_size, *tensor.shape)

        score(net, strategy, model=net, rank=rank, world_size=world_size, needs=needs, gather=keep)

    sent = [len(tensors) for tensors in parts.values()]
    assert len(set(sent)) == 1  # every process joins every gathering
    calls = iter(range(sent[0]))

    def together(tensor: Tensor) -> Tensor:
        call = next(calls)
        return torch.stack([parts[rank][call] for rank in range(world_size)])

    ours = score(net, strategy, model=net, rank=0, world_size=world_size, needs=needs, gather=together)
    alone = score(net, strategy, model=net, needs=needs)
    for name in ("probs", "embeddings"):
        got, wanted = getattr(ours.outputs, name), getattr(alone.outputs, name)
        assert (got is None) == (wanted is None)
        if got is not None:
            torch.testing.assert_close(got, wanted)
    if alone.scores is not None:
        torch.testing.assert_close(ours.scores, alone.scores)


def test_a_failure_elsewhere_ends_this_process_too() -> None:
    elsewhere = machine(logits_of)
    elsewhere = Machine(**{**vars(elsewhere), "all_well": lambda well: False})
    with pytest.raises(ActiveLearningError, match="Scoring failed on another rank"):
        score_pool(Diverse(), POOL, elsewhere, kind="logits", needs=PROBS)


# -- bad outputs
def nan_at(index: int, value: float = float("nan")) -> Callable[[Tensor], Tensor]:
    def step(x: Tensor) -> Tensor:
        logits = logits_of(x).clone()
        logits[(x == DATA[index]).all(-1), 1] = value
        return logits

    return step


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("strategy", [Margin(), Diverse()])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_nan_names_the_first_dataset_index(strategy: Any, value: float, batch_size: int) -> None:
    bad = nan_at(11, value)

    def step(x: Tensor) -> Tensor:
        return torch.where((x == DATA[16]).all(-1, keepdim=True), torch.nan, bad(x))  # a second, later in the pool

    with pytest.raises(ScoringError, match=r"dataset index 11 are not finite.*The pool is unchanged.*learning rate"):
        score(step, strategy, batch_size=batch_size)


@pytest.mark.parametrize("kind", ["probs", "log_probs", "binary"])
def test_nan_in_every_kind_of_output(kind: OutputKind) -> None:
    def step(x: Tensor) -> Tensor:
        values = torch.full((len(x), 1 if kind == "binary" else 2), 0.5)
        values = values.log() if kind == "log_probs" else values
        values[(x == DATA[0]).all(-1)] = torch.nan
        return values

    with pytest.raises(ScoringError, match="dataset index 0 are not finite"):
        score(step, Margin(), kind=kind)


def test_minus_infinity_masks_a_class() -> None:
    assert score(nan_at(11, -torch.inf)).outputs.probs[4, 1] == 0.0


def test_nan_in_embeddings() -> None:
    def step(x: Tensor) -> dict[str, Tensor]:
        return {"logits": logits_of(x), "embeddings": nan_at(4)(x)}

    with pytest.raises(ScoringError, match="The embeddings for dataset index 4 are not finite"):
        score(step, needs=BOTH)


class Careless(ScoreStrategy):
    """A strategy of the user's own that gives NaN for fine probabilities."""

    def score(self, probs: Tensor) -> Tensor:
        return torch.where(torch.arange(len(probs)) == 1, torch.nan, probs[:, 0])


def test_nan_of_a_strategy_is_told_from_one_of_the_model() -> None:
    with pytest.raises(ScoringError, match="The scores for dataset index 3 are not finite"):
        score(logits_of, Careless())


class Wide(ScoreStrategy):
    """Forgets to reduce over the classes."""

    def score(self, probs: Tensor) -> Tensor:
        return probs


def test_scores_of_another_shape() -> None:
    with pytest.raises(ScoringError, match=r"Expected Wide.score to return one score a sample, \(3,\), but got"):
        score(logits_of, Wide())


BAD: list[tuple[str, Callable[[Tensor], Any], str]] = [
    ("logits", lambda x: x.argmax(-1), r"floating-point logits, but got torch.int64 of shape.*Predicted classes"),
    ("logits", lambda x: x[:, 0], r"shape \(B, C\) with C >= 2, but got \(3,\).*outputs='binary'"),
    ("logits", lambda x: x[:, :1], r"but got \(3, 1\).*outputs='binary'"),
    ("logits", lambda x: x.reshape(-1, 5, 1), r"but got \(3, 5, 1\). Add a method `query_step"),
    ("logits", lambda x: x.sum(), r"but got \(\)"),
    ("logits", lambda x: (x, x), "a tensor of logits, but got a tuple. Return the logits alone"),
    ("logits", lambda x: None, "but got a NoneType"),
    ("logits", lambda x: x[:2], "returned 2 rows for a batch of 3 samples"),
    ("logits", lambda x: torch.cat([x, x]), "returned 6 rows for a batch of 3 samples"),
    ("logits", lambda x: {"scores": x}, r"a dict without 'logits'; it has \['scores'\]"),
    ("binary", lambda x: x[:, :2], r"binary of shape \(B,\) or \(B, 1\), but got \(3, 2\)"),
    ("probs", lambda x: x[:, :3], r"outputs='probs', but.*dataset index 7 is no distribution.*leave out `outputs=`"),
    ("log_probs", lambda x: x[:, :3], "outputs='log_probs', but"),
]


@pytest.mark.parametrize(("kind", "step", "message"), BAD)
def test_outputs_that_cannot_be_scored(kind: str, step: Any, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        score(step, kind=kind)


def test_wrong_rows_are_found_in_the_first_batch() -> None:
    seen: list[int] = []

    def step(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x[:-1]

    with pytest.raises(ScoringError, match="returned 2 rows for a batch of 3"):
        score(step)
    assert seen == [3]


def test_wrong_rows_are_found_where_the_batch_size_is_not_known() -> None:
    with pytest.raises(ScoringError, match="gave 4 outputs for 7 samples"):
        score(lambda x: x[: max(len(x) - 1, 0)] if len(x) > 1 else x[:0], known=False)


@pytest.mark.parametrize(
    ("kind", "step"),
    [("binary", lambda x: x[:, :1].squeeze()), ("logits", lambda x: x[:, :3].squeeze())],
)
def test_a_squeezed_last_batch_of_one(kind: str, step: Any) -> None:
    with pytest.raises(ScoringError, match=r"batch of one sample lost its first dimension: write `squeeze\(-1\)`"):
        score(step, kind=kind)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (lambda x: x[:1], r"\(3, D\), but got torch.float32 \(1, 5\): `query_step` must return 'embeddings'"),
        (lambda x: x[:, 0], r"but got torch.float32 \(3,\)"),
        (lambda x: x.long(), r"but got torch.int64 \(3, 5\)"),
        (lambda x: None, "but got NoneType: `query_step` must"),
    ],
)
def test_embeddings_that_do_not_fit(embeddings: Any, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        score(lambda x: {"logits": logits_of(x), "embeddings": embeddings(x)}, needs=BOTH)


def test_the_users_own_error_comes_through() -> None:
    def step(x: Tensor) -> Tensor:
        raise ZeroDivisionError("in forward")

    with pytest.raises(ZeroDivisionError, match="in forward"):
        score(step)
