"""Probabilities that mean what they say: temperature scaling, by the calibration error."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.functional.inputs import blocks, check_probs, check_probs_values
from lightning_al.functional.targets import check_targets
from lightning_al.functional.uncertainty import margin

# Temperatures tried: 1.0, 1.1, ..., 19.9.
_TEMPERATURES = [round(1 + step / 10, 1) for step in range(190)]


def calibration_temperature(probs: Tensor, targets: Tensor) -> float:
    r"""Return the temperature at which the model's confidence is closest to its accuracy.

    Of 1.0, 1.1, ..., 19.9 the one with the least expected calibration error of :math:`p^{1/T}`, normalised, in as many
    bins as there are classes; the lowest of equals. Samples that the model was trained on look better known than they
    are: where some were held out, give those.

    Args:
        probs: Class probabilities ``(L, C)``.
        targets: Classes ``(L,)``, integers in ``[0, C)``.

    Returns:
        The temperature, at least 1.

    Raises:
        ValueError: If a value is no probability, or the targets are no classes of these.

    References:
        Guo, Pleiss, Sun and Weinberger (ICML 2017), *On Calibration of Modern Neural Networks*; Naeini, Cooper and
        Hauskrecht (AAAI 2015), *Obtaining Well Calibrated Probabilities Using Bayesian Binning*.

    Example:
        >>> import torch
        >>> sure = torch.tensor([[0.99, 0.01]] * 4)
        >>> calibration_temperature(sure, torch.tensor([0, 0, 0, 1]))
        4.2
    """
    probs = check_probs(probs)
    check_probs_values(probs)
    targets = check_targets(targets, len(probs), probs.shape[1]).to(probs.device)
    errors = torch.zeros(len(_TEMPERATURES), probs.shape[1], dtype=torch.float64, device=probs.device)
    for start, block in blocks(probs):
        logs = _logs(block)
        # A temperature changes no prediction.
        hits = (block.argmax(1) == targets[start : start + len(block)]).double()
        for row, temperature in enumerate(_TEMPERATURES):
            confidence = _scaled(logs, temperature).amax(1).double()
            # Bins are open below and closed above, as in the definition.
            bins = (confidence * probs.shape[1]).ceil().long().sub_(1).clamp_(0, probs.shape[1] - 1)
            errors[row].index_add_(0, bins, confidence - hits)
    return _TEMPERATURES[int(errors.abs().sum(1).argmin())]


def calibrated_margin(probs: Tensor, temperature: float) -> Tensor:
    """Return one minus the margin of probabilities at a temperature.

    Args:
        probs: Class probabilities ``(N, C)``.
        temperature: The temperature; 1 leaves them.

    Returns:
        Scores ``(N,)`` in [0, 1]; higher is less sure.
    """
    if temperature == 1:
        return margin(probs)
    return torch.cat([margin(_scaled(_logs(block), temperature)) for _, block in blocks(probs)])


def _logs(probs: Tensor) -> Tensor:
    values = probs.float() if probs.dtype != torch.float64 else probs
    return values.clamp(min=torch.finfo(values.dtype).tiny).log_()


def _scaled(logs: Tensor, temperature: float) -> Tensor:
    return logs.div(temperature).softmax(1)
