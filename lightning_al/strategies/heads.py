"""Reading the head from outputs, which `Outputs.require` does for tensors."""

from __future__ import annotations

from lightning_al.functional.heads import Head
from lightning_al.strategies.base import Outputs


def require_head(outputs: Outputs, asked_by: str) -> Head:
    """Return the head that a strategy cannot do without.

    Args:
        outputs: Outputs for a set of samples.
        asked_by: The strategy's name, for the message.

    Returns:
        The last layer, ``(M, D)`` to ``(M, C)``.

    Raises:
        ValueError: If there is none.
    """
    if outputs.head is None:
        raise ValueError(
            f"Expected `head` in the outputs for {asked_by}, but got None. Pass `Outputs(head=...)`: the last layer, "
            "from embeddings to logits."
        )
    return outputs.head
