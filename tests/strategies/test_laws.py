"""The law of what chance picks, for the strategies whose law is their own; functions' laws are beside the functions."""

from __future__ import annotations

from itertools import permutations

import torch

from lightning_al.strategies import Margin, Mixture, Random
from lightning_al.strategies.base import Outputs, QueryStrategy
from tests._helpers import reference

DRAWS = 3000


def draws(strategy: QueryStrategy, pool: Outputs, query_size: int) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(1)
    return [tuple(strategy.select(pool, query_size, generator=generator).tolist()) for _ in range(DRAWS)]


def uniform(positions: list[int], count: int) -> dict[tuple[int, ...], float]:
    """Every order of ``count`` of the positions has the same chance."""
    orders = list(permutations(positions, count))
    return dict.fromkeys(orders, 1 / len(orders))


def test_random_draws_every_order_equally_often():
    law = uniform(list(range(5)), 3)
    distance, noise = reference.total_variation(law, draws(Random(), Outputs(dataset_indices=torch.arange(5)), 3))
    assert distance < 1.35 * noise


def test_a_mixture_draws_uniformly_from_what_margin_left():
    probs = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [1.0, 0.0]])
    law = {(1, 3, *rest): chance for rest, chance in uniform([0, 2, 4, 5], 2).items()}
    distance, noise = reference.total_variation(law, draws(Mixture(["Margin", "Random"]), Outputs(probs=probs), 4))
    assert distance < 1.35 * noise


def test_samples_that_tie_are_drawn_uniformly():
    probs = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.6, 0.4], [0.5, 0.5]])
    law = {(4, *rest): chance for rest, chance in uniform([1, 2, 3], 2).items()}
    distance, noise = reference.total_variation(law, draws(Margin(), Outputs(probs=probs), 3))
    assert distance < 1.5 * noise


def test_the_bound_sees_a_wrong_law():
    """One of five samples comes first in a third of the draws, not in a fifth."""
    law = uniform(list(range(5)), 3)
    chances = torch.tensor([chance * (5 / 3 if order[0] == 0 else 5 / 6) for order, chance in law.items()])
    orders, generator = list(law), torch.Generator().manual_seed(1)
    drawn = [orders[i] for i in torch.multinomial(chances, DRAWS, replacement=True, generator=generator)]
    distance, noise = reference.total_variation(law, drawn)
    assert distance > 1.35 * noise
