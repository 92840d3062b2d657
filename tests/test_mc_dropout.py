"""Draws by dropout: one mask a draw and layer, the same for every sample, whatever the batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_al.exceptions import ScoringError
from lightning_al.mc_dropout import dropout_draws

LAYERS = [
    nn.Dropout(0.3),
    nn.Dropout1d(0.5),
    nn.Dropout2d(0.5),
    nn.Dropout3d(0.5),
    nn.AlphaDropout(0.4),
    nn.FeatureAlphaDropout(0.4),
    nn.Dropout(0.3, inplace=True),
]


def batch(layer: nn.Module, rows: int = 6) -> torch.Tensor:
    dims = {nn.Dropout1d: 1, nn.Dropout3d: 3}.get(type(layer), 2)
    return torch.randn(rows, 40, *[3] * dims, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_draw_has_one_mask_for_all_samples_in_any_batch(layer: nn.Module) -> None:
    model, given = nn.Sequential(layer).eval(), batch(layer)
    with dropout_draws(model, seed=3) as draw:
        draw(0)
        together = model(given.clone())
        alone = []
        for row in given:
            draw(0)
            alone.append(model(row[None].clone()))
        draw(1)
        other = model(given.clone())
        draw(None)
        plain = model(given.clone())
        draw(0)
        again = model(given.clone())
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together, again)
    assert torch.equal(plain, given)
    assert not torch.equal(together, other)
    assert torch.equal(model(given.clone()), given), "the hooks stay"
    assert not model[0].training


@pytest.mark.parametrize("layer", LAYERS[:4], ids=str)
def test_the_share_dropped_and_the_rest_scaled_as_in_training(layer: nn.Module) -> None:
    model = nn.Sequential(layer).eval()
    ones = torch.ones_like(batch(layer, rows=1))
    with dropout_draws(model, seed=0) as draw:
        results = []
        for number in range(300):
            draw(number)
            results.append(model(ones))
    drawn = torch.cat(results)
    kept = 1 / (1 - layer.p)
    assert drawn.unique().tolist() == pytest.approx([0.0, kept])
    assert drawn.mean() == pytest.approx(1, abs=0.03)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    model = nn.Sequential(nn.AlphaDropout(0.4)).eval()
    given = torch.randn(4, 200, generator=torch.Generator().manual_seed(1))
    with dropout_draws(model, seed=0) as draw:
        results = []
        for number in range(200):
            draw(number)
            results.append(model(given))
    drawn = torch.stack(results)
    assert drawn.mean() == pytest.approx(0, abs=0.03)
    assert drawn.var() == pytest.approx(1, abs=0.05)


def test_layers_seeds_and_draws_differ_and_the_global_state_stays() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5)).eval()
    ones, state = torch.ones(1, 64), torch.get_rng_state()
    masks = []
    for seed in (0, 1):
        with dropout_draws(model, seed=seed) as draw:
            for number in (0, 1):
                draw(number)
                first = model[0](ones)
                masks += [tuple(first[0].tolist()), tuple(model[1](ones)[0].tolist())]
    assert len(set(masks)) == 8
    assert torch.equal(state, torch.get_rng_state())


def test_a_model_without_dropout_is_refused() -> None:
    with (
        pytest.raises(ScoringError, match=r"no dropout layer.*query_step"),
        dropout_draws(nn.Sequential(nn.Dropout(0.0), nn.Linear(2, 2)), seed=0),
    ):
        pass


def test_a_layer_that_runs_twice_drops_twice() -> None:
    layer = nn.Dropout(0.5).eval()
    with dropout_draws(layer, seed=0) as draw:
        shares = []
        for number in range(50):
            draw(number)
            shares.append((layer(layer(torch.ones(1, 200))) > 0).float().mean())
    assert torch.stack(shares).mean() == pytest.approx(0.25, abs=0.02)


def test_dropout_that_no_layer_does_is_noticed() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    model.unused = nn.Dropout(0.5)
    with dropout_draws(nn.ModuleList([model, nn.Dropout(0.5)]), seed=0) as draw:
        draw(0)
        model[0](torch.ones(1, 3))
        with pytest.raises(ScoringError, match=r"write torch\.nn\.Dropout in the place of"):
            draw(1)
