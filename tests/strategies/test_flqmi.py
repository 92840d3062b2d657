"""FLQMI, the class: it cannot do without a target set, and takes the weight it is given."""

from __future__ import annotations

import pytest
import torch

from lightning_al.functional.flqmi import flqmi
from lightning_al.strategies.base import Outputs
from lightning_al.strategies.flqmi import FLQMI


def test_reads_the_target_set_and_the_weight():
    generator = torch.Generator().manual_seed(0)
    pool, target = (Outputs(embeddings=torch.randn(rows, 5, generator=generator)) for rows in (40, 6))
    for eta in (0.0, 3.0):
        assert torch.equal(FLQMI(eta).select(pool, 9, target=target), flqmi(pool.embeddings, target.embeddings, 9, eta))
    assert repr(FLQMI()) == "FLQMI(eta=1.0)"
    for none in (None, Outputs()):
        with pytest.raises(ValueError, match=r"for FLQMI, but got none. Give the datamodule a `target_dataset\(\)`"):
            FLQMI().select(pool, 3, target=none)
    with pytest.raises(ValueError, match="`eta` to be a finite number of 0 or more, but got -1"):
        FLQMI(-1)
