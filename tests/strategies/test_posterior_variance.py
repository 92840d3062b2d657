"""The one argument of PosteriorVariance."""

from __future__ import annotations

import pytest
import torch

from lightning_al.functional.posterior_variance import posterior_variance
from lightning_al.strategies.base import Outputs
from lightning_al.strategies.posterior_variance import PosteriorVariance


def test_noise_reaches_the_function():
    embeddings = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
    pool, labeled = Outputs(embeddings=embeddings[:70]), Outputs(embeddings=embeddings[70:])
    assert not torch.equal(*[posterior_variance(embeddings[:70], 9, embeddings[70:], noise) for noise in (0.1, 10.0)])
    for noise in (0.1, 10.0):
        expected = posterior_variance(embeddings[:70], 9, embeddings[70:], noise)
        assert torch.equal(PosteriorVariance(noise).select(pool, 9, labeled=labeled), expected)
    assert repr(PosteriorVariance()) == "PosteriorVariance(noise=0.1)"


@pytest.mark.parametrize("noise", [0, -0.1, float("nan"), float("inf"), True])
def test_wrong_noise_is_refused(noise):
    with pytest.raises(ValueError, match="Expected `noise` to be a number above 0, but got"):
        PosteriorVariance(noise)
