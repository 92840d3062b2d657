"""modAL's uncertainty sampling, asked with a classifier that has the probabilities already."""

from __future__ import annotations

from typing import Any

from modAL import uncertainty


class Predicted:
    """Its samples are the probabilities it predicts of them."""

    def predict_proba(self, probs: Any) -> Any:
        return probs


def _sampling(sample: Any) -> Any:
    return lambda probs, query_size: lambda: sample(Predicted(), probs, n_instances=query_size)[0]


SELECTIONS = {
    "Entropy": _sampling(uncertainty.entropy_sampling),
    "Margin": _sampling(uncertainty.margin_sampling),
    "LeastConfidence": _sampling(uncertainty.uncertainty_sampling),
}


if __name__ == "__main__":
    from serving import serve

    serve(SELECTIONS)
