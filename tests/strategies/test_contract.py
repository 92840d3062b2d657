"""What every strategy must hold: one contract, run for each name in ``strategies.__all__``."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from lightning_al import strategies
from lightning_al.strategies.base import Outputs, QueryStrategy, ScoreStrategy

each_strategy = pytest.mark.parametrize("name", strategies.__all__)
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def outputs(
    strategy: QueryStrategy, part: str, rows: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Outputs:
    """Return what the strategy asked for and nothing else, as the callback does."""
    generator = torch.Generator().manual_seed(seed)
    fields = {
        "probs": (2 * torch.randn(rows, 5, generator=generator)).softmax(1).to(dtype),
        "embeddings": torch.randn(rows, 6, generator=generator).to(dtype),
        "samples": (2 * torch.randn(rows, 4, 5, generator=generator)).softmax(2).to(dtype),
        "targets": torch.arange(rows) % 5,
        "dataset_indices": torch.arange(rows),
        "head": head,
    }
    asked = {field: fields[field] for field in getattr(strategy.needs, part) | {"dataset_indices"}}
    return Outputs(**asked)


HEAD = torch.randn(6, 5, generator=torch.Generator().manual_seed(3))


def head(values: torch.Tensor) -> torch.Tensor:
    return values.float() @ HEAD.to(values.device)


def tensors(strategy: QueryStrategy, part: str) -> list[str]:
    """The fields of floating-point numbers that a strategy reads."""
    return sorted(getattr(strategy.needs, part) & {"probs", "embeddings", "samples"})


def select(strategy: QueryStrategy, pool: Outputs, query_size: int, labeled: int = 8, seed: int | None = 1):
    known = outputs(strategy, "labeled", labeled, seed=9) if labeled else None
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return strategy.select(pool, query_size, labeled=known, generator=generator, **target(strategy))


def target(strategy: QueryStrategy) -> dict[str, Outputs]:
    """The target set, for a strategy that reads one."""
    return {"target": outputs(strategy, "target", 11, seed=5)} if strategy.needs.target else {}


def check(picks: torch.Tensor, rows: int, query_size: int) -> None:
    assert picks.dtype == torch.int64
    assert picks.shape == (min(query_size, rows),)
    assert len(set(picks.tolist())) == len(picks)
    assert all(0 <= pick < rows for pick in picks.tolist())


@each_strategy
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "query_size"), [(1, 1), (1, 5), (40, 7), (40, 40), (40, 99), (300, 20)])
@pytest.mark.parametrize("labeled", [0, 8])
def test_returns_unique_positions(name, dtype, rows, query_size, labeled):
    strategy = getattr(strategies, name)()
    pool = outputs(strategy, "pool", rows, dtype=dtype)
    check(select(strategy, pool, query_size, labeled), rows, query_size)


def hard_pool(strategy: QueryStrategy, kind: str, dtype: torch.dtype = torch.float32) -> Outputs:
    """Return 60 samples of a kind that breaks divisions, distances, logarithms or ties."""
    pool = outputs(strategy, "pool", 60)
    for field in tensors(strategy, "pool"):
        values = getattr(pool, field)
        if kind == "zero" and field == "embeddings":
            values = torch.zeros_like(values)
        elif kind == "identical":
            values = values[:1].expand(60, *values.shape[1:])
        elif kind == "duplicates":
            values = values[torch.arange(60) % 4]
        elif kind == "offset" and field == "embeddings":
            values = values + 1000
        elif kind == "certain" and field != "embeddings":
            values = torch.eye(5)[torch.arange(60) % 5]
            values = values if field == "probs" else values[:, None].expand(60, 4, 5)
        setattr(pool, field, values.to(dtype))
    return pool


@each_strategy
@pytest.mark.parametrize("kind", ["identical", "duplicates", "offset", "certain", "zero"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("labeled", [0, 8])
def test_returns_unique_positions_on_hard_pools(name, kind, dtype, labeled):
    strategy = getattr(strategies, name)()
    pool = hard_pool(strategy, kind, dtype)
    for query_size in (3, 59, 60):
        check(select(strategy, pool, query_size, labeled), 60, query_size)


@each_strategy
def test_ties_go_to_the_lowest_or_by_the_seed(name):
    """Of samples that are all alike the first are picked whatever the seed, or others from seed to seed."""
    strategy = getattr(strategies, name)()
    pool = hard_pool(strategy, "identical")
    if pool.embeddings is not None:
        pool.embeddings = torch.eye(6)[torch.zeros(60, dtype=torch.int64)]  # no product of these is rounded
    drawn = {tuple(select(strategy, pool, 5, labeled=0, seed=seed).tolist()) for seed in range(6)}
    assert drawn == {(0, 1, 2, 3, 4)} or len(drawn) == 6


@each_strategy
def test_same_seed_same_query_and_no_other_randomness(name):
    strategy = getattr(strategies, name)()
    pool = outputs(strategy, "pool", 120)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = select(strategy, pool, 12)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(select(getattr(strategies, name)(), pool, 12), first)
    assert torch.equal(select(strategy, pool, 12, seed=None), select(strategy, pool, 12, seed=None))


@pytest.mark.parametrize("name", ["Random", "BADGE", "KMeans"])
def test_another_seed_gives_another_query(name):
    strategy = getattr(strategies, name)()
    pool = outputs(strategy, "pool", 120)
    assert not torch.equal(select(strategy, pool, 12, seed=1), select(strategy, pool, 12, seed=2))


@each_strategy
def test_leaves_what_it_is_given(name):
    strategy = getattr(strategies, name)()
    pool, labeled = outputs(strategy, "pool", 50), outputs(strategy, "labeled", 9)
    for part in (pool, labeled):
        for field in ("probs", "embeddings", "samples"):
            if getattr(part, field) is not None:
                getattr(part, field).requires_grad_()
    before = copy.deepcopy((pool, labeled))
    picks = strategy.select(pool, 10, labeled=labeled, generator=torch.Generator(), **target(strategy))
    assert not picks.requires_grad
    for part, old in zip((pool, labeled), before, strict=True):
        for field in ("probs", "embeddings", "samples", "targets", "dataset_indices"):
            now, then = getattr(part, field), getattr(old, field)
            assert now is then is None or torch.equal(now, then)


@each_strategy
@pytest.mark.parametrize("labeled", [None, Outputs(), Outputs(embeddings=torch.empty(0, 6))])
def test_no_labels_yet_is_no_error(name, labeled):
    strategy = getattr(strategies, name)()
    picks = strategy.select(outputs(strategy, "pool", 30), 4, labeled=labeled, **target(strategy))
    check(picks, 30, 4)


@each_strategy
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_output_that_is_not_finite_is_named(name, value):
    strategy = getattr(strategies, name)()
    for field in tensors(strategy, "pool"):
        pool = outputs(strategy, "pool", 50)
        getattr(pool, field)[[23, 41], 1] = value
        argument = "probs" if field == "samples" else field
        with pytest.raises(ValueError, match=f"`{argument}` to be finite, but got {value} at position 23"):
            select(strategy, pool, 5)
    for field in tensors(strategy, "labeled"):
        labeled = outputs(strategy, "labeled", 9)
        getattr(labeled, field)[[4, 6], 0] = value
        with pytest.raises(ValueError, match=f"but got {value} at position 4"):
            strategy.select(outputs(strategy, "pool", 50), 5, labeled=labeled, **target(strategy))
    for field in tensors(strategy, "target"):
        wanted = target(strategy)
        getattr(wanted["target"], field)[[3, 7], 0] = value
        with pytest.raises(ValueError, match=f"but got {value} at position 3"):
            strategy.select(outputs(strategy, "pool", 50), 5, **wanted)


@each_strategy
@pytest.mark.parametrize("query_size", [0, -3, 2.5, "4"])
def test_a_wrong_query_size_is_refused(name, query_size):
    strategy = getattr(strategies, name)()
    with pytest.raises(ValueError, match="to be a positive integer, but got"):
        select(strategy, outputs(strategy, "pool", 10), query_size)


@each_strategy
def test_a_missing_field_is_named_and_an_empty_pool_gives_nothing(name):
    strategy = getattr(strategies, name)()
    for field in strategy.needs.pool:
        pool = outputs(strategy, "pool", 10)
        setattr(pool, field, None)
        with pytest.raises(ValueError, match=f"Expected `{field}` in the outputs for "):
            select(strategy, pool, 3)
    check(select(strategy, outputs(strategy, "pool", 0), 3), 0, 3)


@each_strategy
def test_state_round_trips(name):
    strategy, other = getattr(strategies, name)(), getattr(strategies, name)()
    pool = outputs(strategy, "pool", 60)
    select(strategy, pool, 5)
    other.load_state_dict(strategy.state_dict())
    assert torch.equal(select(strategy, pool, 5, seed=4), select(other, pool, 5, seed=4))
    with pytest.raises(ValueError, match="stray"):
        other.load_state_dict({"stray": 1})


@each_strategy
def test_names_itself(name):
    strategy = getattr(strategies, name)()
    assert strategy.name.partition("(")[0] == name
    assert strategies.get_strategy(name).name == strategy.name
    assert strategies.get_strategy(strategy) is strategy
    assert repr(eval(repr(strategy), dict(vars(strategies)))) == repr(strategy)
    assert repr(strategy).startswith(f"{name}(")


@each_strategy
def test_score_strategies_do_not_depend_on_the_batch_size(name):
    strategy = getattr(strategies, name)()
    if not isinstance(strategy, ScoreStrategy):
        assert "score" not in vars(type(strategy))
        return
    (field,) = strategy.needs.pool
    for classes in (2, 10, 100, 1000):
        shape = (97, classes) if field == "probs" else (97, 3, classes)
        probs = torch.randn(shape, generator=torch.Generator().manual_seed(classes)).softmax(-1)
        scores = strategy.score(probs)
        for size in (1, 13, 64):
            assert torch.equal(torch.cat([strategy.score(batch) for batch in probs.split(size)]), scores)
        picks = strategy.select(Outputs(**{field: probs}), 9, generator=torch.Generator().manual_seed(0))
        again = strategy.select_from_scores(scores, 9, generator=torch.Generator().manual_seed(0))
        assert torch.equal(picks, again)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_strategy
def test_runs_where_its_outputs_are(name):
    strategy = getattr(strategies, name)()
    pool = outputs(strategy, "pool", 300)
    expected = select(strategy, pool, 20, labeled=0)
    for field in tensors(strategy, "pool"):
        setattr(pool, field, getattr(pool, field).cuda())
    picks = select(strategy, pool, 20, labeled=0)
    check(picks.cpu(), 300, 20)
    if name in ("CoreSet", "Entropy", "LeastConfidence", "Margin"):
        assert picks.tolist() == expected.tolist()
