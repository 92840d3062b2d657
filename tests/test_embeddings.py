"""Embeddings by hook against the activations, written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lightning_al.embeddings import captured_calls, embedding_of, find_embedding_layer, find_layer
from lightning_al.exceptions import ScoringError
from lightning_al.scoring import Machine, score_pool
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy

X = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
BOTH = frozenset({"probs", "embeddings"})


class Any7(QueryStrategy):
    needs = Needs(pool=BOTH)

    def select(self, pool: Outputs, query_size: int, *, labeled: Any = None, generator: Any = None) -> Tensor:
        return torch.arange(query_size)


@torch.no_grad()
def embeddings(model: nn.Module, layer: str | None = None, step: Callable[..., Any] | None = None) -> Tensor:
    """Embeddings of all of X in batches of three, through the real pass."""
    machine = Machine(
        model=model,
        batches=lambda indices: [X[part] for part in indices.split(3)],
        step=lambda batch, number: model(batch) if step is None else step(batch, number),
        rank=0,
        world_size=1,
        gather=lambda tensor: tensor.unsqueeze(0),
        all_well=lambda well: well,
        batch_size=3,
    )
    scored = score_pool(Any7(), torch.arange(7), machine, kind="logits", needs=BOTH, embedding_layer=layer)
    assert scored.outputs.embeddings is not None
    return scored.outputs.embeddings


class HeadFirst(nn.Module):
    """Registered in another order than run; keeps what the head saw."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.body = nn.Linear(6, 4)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x))


def by_hand(model: HeadFirst, x: Tensor = X) -> Tensor:
    rows = [[max(0.0, float(w @ row + b)) for w, b in zip(*params(model.body), strict=True)] for row in x]
    return torch.tensor(rows)


def params(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    return layer.weight.detach(), layer.bias.detach()


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_order_of_registration_does_not_matter() -> None:
    model = HeadFirst()
    assert find_embedding_layer(model, lambda: model(X)) == "head"
    close(embeddings(model), by_hand(model))


class LogSoftmax(HeadFirst):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).log_softmax(-1)


def test_where_the_output_is_no_layers_own_the_last_that_ran_counts() -> None:
    model = LogSoftmax()
    close(embeddings(model), by_hand(model))


class AuxiliaryLast(HeadFirst):
    """Runs another linear layer after the head."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        self.kept = self.auxiliary(x)
        return logits


def test_the_layer_whose_output_is_returned_wins_over_the_last() -> None:
    model = AuxiliaryLast()
    assert find_embedding_layer(model, lambda: model(X)) == "head"
    close(embeddings(model), by_hand(model))


class HeadTwice(HeadFirst):
    """The same head on the sample and on a changed copy; the first result is returned, or the second."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        plain = self.head(self.hidden(x))
        changed = self.head(self.hidden(x + 1))
        return plain if self.first else changed


@pytest.mark.parametrize("first", [True, False])
def test_a_layer_that_runs_twice(first: bool) -> None:
    model = HeadTwice(first)
    close(embeddings(model), by_hand(model, X if first else X + 1))


def test_a_lazy_layer() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(3))
    got = embeddings(model)  # made by the pass itself
    close(got, torch.relu(X @ model[0].weight.T + model[0].bias).detach())


def test_a_parametrized_layer() -> None:
    model = HeadFirst()
    parametrizations.weight_norm(model.head)
    close(embeddings(model), by_hand(model))


class Adapter(nn.Module):
    """A linear layer by its attributes only, as quantized and LoRA layers are."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight = nn.Parameter(base.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


def test_a_layer_that_is_linear_by_its_attributes() -> None:
    model = HeadFirst()
    model.head = Adapter(model.head)
    close(embeddings(model), by_hand(model))


def test_a_named_layer() -> None:
    model = HeadFirst()
    close(embeddings(model, layer="body"), X)


class Convolutional(nn.Module):
    """No linear layer at all: classes by a convolution over a 2 x 3 image."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 2, 1)
        self.classes = nn.Conv2d(2, 3, (2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.body(x.reshape(-1, 1, 2, 3))).flatten(1)


def test_maps_are_flattened_to_one_row_a_sample() -> None:
    model = Convolutional()
    expected = torch.stack([X * model.body.weight[c].item() + model.body.bias[c].item() for c in range(2)], dim=1)
    close(embeddings(model, layer="classes"), expected.flatten(1))


def test_without_a_linear_layer_the_message_says_what_to_do() -> None:
    with pytest.raises(ScoringError, match=r"no linear layer ran in `forward`.*embedding_layer='backbone.fc'"):
        embeddings(Convolutional())


class Keywords(HeadFirst):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=self.hidden(x))


def test_a_layer_called_by_keyword() -> None:
    model = Keywords()
    close(embeddings(model), by_hand(model))


@pytest.mark.parametrize("part", ["whole", "inner"])
def test_a_compiled_model(part: str) -> None:
    torch._dynamo.reset()

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = HeadFirst()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    model = Outer()
    plain = model.net
    if part == "whole":
        ran: nn.Module = torch.compile(model, backend="eager")
    else:
        model.net = torch.compile(plain, backend="eager")
        ran = model
    with torch.no_grad():
        for size in (3, 1):  # compiled before any hook is set, for the sizes that come
            ran(X[:size])
    close(embeddings(ran), by_hand(plain))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    model = HeadFirst().to(dtype)
    got = embeddings(model, step=lambda batch, number: model(batch.to(dtype)))
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), by_hand(model.float()), atol=0.05, rtol=0.05)


def test_no_hook_is_left() -> None:
    model = HeadFirst()

    def failing(batch: Tensor, number: int) -> Tensor:
        if number:
            raise ZeroDivisionError
        return model(batch)

    embeddings(model)
    with pytest.raises(ZeroDivisionError):
        embeddings(model, step=failing)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_a_layer_that_does_not_run_is_named() -> None:
    model = AuxiliaryLast()
    with pytest.raises(ScoringError, match="the layer 'auxiliary' did not run in `forward`"):
        embeddings(model, layer="auxiliary", step=lambda batch, number: HeadFirst.forward(model, batch))


def test_a_misspelt_layer_lists_close_ones_and_the_linear_ones() -> None:
    model = nn.ModuleDict({"backbone": HeadFirst(), "norm": nn.LayerNorm(3)})
    with pytest.raises(ScoringError, match=r"no layer 'backbone.haed'") as caught:
        find_layer(model, "backbone.haed")
    message = str(caught.value)
    assert "'backbone.head'" in message.split("Its linear layers")[0]
    assert "['backbone.head', 'backbone.body']" in message
    assert find_layer(model, "backbone.head") is model["backbone"].head


def test_calls_are_told_apart_by_their_output() -> None:
    layer = nn.Linear(2, 2)
    with captured_calls(nn.Sequential(layer), "0") as calls:
        one, two = torch.ones(1, 2), torch.zeros(1, 2)
        first, _ = layer(one), layer(two)
    assert embedding_of(calls, first) is one
    assert embedding_of(calls, torch.zeros(1, 2)) is two
    assert embedding_of([], first) is None
