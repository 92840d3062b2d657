"""Made-up reports of the feasibility study, as ``feasibility.json`` holds them; values are plausible, not measured."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

LABELS = [60, 120, 180, 240, 300, 360, 420, 480, 540]
HOSTILE = '<script>alert("x")</script>&amp;\'"><img src=x onerror=alert(1)> $\\frac{a}$ {{ 7*7 }} \x00\u202e]]>'
"""Text that would run, close a tag, break an SVG, start mathematics or be read backwards, were it not escaped."""

_GAINS = {
    "promising": {"LeastConfidence": 1.1, "Margin": 2.6, "BADGE": 2.3, "KMeans": 0.4},
    "not_promising": {"LeastConfidence": -0.05, "Margin": 0.03, "BADGE": 0.06, "KMeans": -0.02},
    "inconclusive": {"LeastConfidence": -0.4, "Margin": 0.8, "BADGE": 0.6, "KMeans": 0.1},
}
_SPREADS = {"promising": 0.7, "not_promising": 0.12, "inconclusive": 1.4}
_HEADLINES = {
    "promising": "Margin needs about 38 % fewer labels than random labeling for the same accuracy of 84.1 points.",
    "not_promising": "After the first 60 labels accuracy can rise by less than 0.5 points, whoever chooses the labels.",
    "inconclusive": "Margin may gain 0.8 points, but 10 replicates cannot tell this gain from chance.",
}
_REASONS = {
    "promising": [
        "Margin gains 2.60 points over random labels, surely above zero and above the 0.50 that make it worthwhile.",
        "Which data are labeled matters: it makes 71 % of the variance between fits.",
    ],
    "not_promising": ["The room for any strategy is at most 0.31 points, less than the 0.50 that are worthwhile."],
    "inconclusive": ["Every interval holds both zero and the least worthwhile gain of 0.50 points."],
}
_FLAGS = {
    "promising": ["composition_matters", "spam_suspected"],
    "not_promising": ["saturated"],
    "inconclusive": ["training_noise_dominant"],
}
_ADVICE = {
    "promising": [
        "Label the next 300 with Margin, and 15 % of them at random as a control.",
        "Look at LeastConfidence's contact sheet: a filter for blurred photos may help every strategy.",
    ],
    "not_promising": ["Label at random, or stop: more labels of this kind will not help much."],
    "inconclusive": ["Run the same study with replicates: 34; finished fits are kept."],
}


def made_up(verdict: str) -> dict[str, Any]:
    """A whole report with a verdict."""
    generator = np.random.default_rng(sorted(_GAINS).index(verdict))
    rise = 1.2 if verdict == "not_promising" else 22.0
    base = 87.0 - rise * np.exp(-np.arange(len(LABELS)) / 2.6)
    strategies = [_strategy(verdict, name, gain) for name, gain in _GAINS[verdict].items()]
    curves = {"random": _band(base, 0.8)}
    for name, gain in _GAINS[verdict].items():
        shape = 1.35 * gain * np.sin(np.linspace(0, np.pi, len(LABELS)) ** 0.8)
        curves[name] = _band(base + shape, 0.5)
    report = {
        "schema": 1,
        "verdict": verdict,
        "headline": _HEADLINES[verdict],
        "reasons": _REASONS[verdict],
        "flags": _FLAGS[verdict],
        "metric": {"name": "accuracy", "higher_is_better": True, "scale": 100, "unit": "points"},
        "settings": {"mode": "proxy", "backbone": "resnet18", "delta": 0.5, "saving": 0.1, "replicates": 10,
                     "rounds": 8, "initial": 60, "query_size": 60, "buckets": 5,
                     "fractions": [0.2, 0.4, 0.6, 0.8, 1.0], "seeds": 3, "seed": 0, "label_cost": 1.5,
                     "hour_cost": 4.0, "strategies": ["random", *_GAINS[verdict]]},
        "data": {"pilot": 4000, "test": 2000, "test_split": "test", "classes": 4,
                 "class_names": ["Maize", "Fat Hen", "Charlock", "Cleavers"]},
        "strategies": strategies,
        "target": {"value": 84.1, "random_labels": 512.0},
        "replicates": 10,
        "exploratory": False,
        "required_R": 34 if verdict == "inconclusive" else None,
        "room": {"mean": 0.22, "ci": [0.13, 0.31]} if verdict == "not_promising" else {"mean": 4.4, "ci": [3.9, 4.9]},
        "curves": {"labels": LABELS, "arms": curves},
        "penalty_matrix": {"names": list(curves), "rows": _rounded(generator.random((5, 5)) * (1 - np.eye(5)))},
        **_design(verdict, generator),
        "pathology": _pathology(verdict, generator),
        "advice": _ADVICE[verdict],
        "cost": _cost(verdict),
        "seeds": {"study": 0, "training": [11, 12, 13]},
        "versions": {"lightning-al": "0.1.0", "torch": "2.14.1", "lightning": "2.6.6"},
        "seconds": {"design": 31.2, "simulation": 48.9},
        "confirm": None,
        "failures": [{"key": "design-b2-f0.4-s1", "error": "RuntimeError: out of memory"}],
        "notes": ["Replicate 7 was left out of the design: one of its fits failed twice."],
    }  # fmt: skip
    if verdict == "promising":
        confirmed = copy.deepcopy(strategies[1:2])
        confirmed[0].update(delta=1.9, ci=[0.7, 3.1], wins=6)
        level = {"value": 82.7, "random_labels": 498.0}
        report["confirm"] = {"verdict": "promising", "replicates": 6, "exploratory": False, "required_R": None,
                             "strategies": confirmed, "target": level, "room": {"mean": 5.1, "ci": [4.2, 6.0]},
                             "curves": {"labels": LABELS, "arms": {"random": _band(base - 2, 0.8),
                                                                   "Margin": _band(base - 0.5, 0.7)}},
                             "cost": _cost(verdict)}  # fmt: skip
    return report


def bare() -> dict[str, Any]:
    """A report in which every optional part is absent, as of curves with three replicates and one useless arm."""
    report = dict.fromkeys(made_up("inconclusive"))
    report.update(
        schema=1, verdict="inconclusive", headline="Three replicates are too few to tell.", reasons=[],
        flags=["too_few_replicates"], metric={"name": "accuracy", "scale": 100}, settings={}, strategies=[],
        replicates=3, exploratory=True, advice=[], seeds={}, versions={}, seconds={}, failures=[], notes=[],
    )  # fmt: skip
    return report


def hostile() -> dict[str, Any]:
    """A report with `HOSTILE` in every string that comes from data, settings or errors, and without some bounds."""
    kept = {"verdict", "flags", "unit", "mode", "test_split"}
    report: dict[str, Any] = _poisoned(made_up("promising"), kept)
    renamed = {each["name"]: f"{HOSTILE}{place}" for place, each in enumerate(made_up("promising")["strategies"])}
    for each, name in zip(report["strategies"], renamed.values(), strict=True):
        each["name"] = name
    report["confirm"]["strategies"][0]["name"] = renamed["Margin"]
    for part in (report, report["confirm"]):
        part["curves"]["arms"] = {renamed.get(name, name): arm for name, arm in part["curves"]["arms"].items()}
    report["legacy"]["metrics"] = {HOSTILE: report["legacy"]["metrics"]["accuracy"]}
    report["flags"] = [HOSTILE]
    report["settings"][HOSTILE] = HOSTILE
    report["strategies"][0].update(ci=None, saving=None, saving_ci=[None, 0.2], censored=True)
    report["strategies"][1].update(saving_ci=[None, 0.51], label_ratio_ci=[0.49, None])
    return report


def _poisoned(value: Any, kept: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: each if key in kept else _poisoned(each, kept) for key, each in value.items()}
    if isinstance(value, list):
        return [_poisoned(each, kept) for each in value]
    return HOSTILE if isinstance(value, str) else value


def _rounded(values: Any, decimals: int = 2) -> Any:
    return np.round(values, decimals).tolist()


def _band(mean: Any, half: float) -> dict[str, Any]:
    halves = half * np.linspace(1.6, 0.7, len(LABELS))
    return {"mean": _rounded(mean), "low": _rounded(mean - halves), "high": _rounded(mean + halves)}


def _strategy(verdict: str, name: str, gain: float) -> dict[str, Any]:
    spread = _SPREADS[verdict]
    saving = round(min(0.6, 0.148 * gain), 3)
    never = verdict == "inconclusive" and name == "LeastConfidence"
    return {
        "name": name,
        "delta": gain,
        "ci": [round(gain - 0.98 * spread, 3), round(gain + 0.98 * spread, 3)],
        "sd": spread,
        "p_adj": 0.0039 if gain > spread else 0.213,
        "saving": None if never else saving,
        "saving_ci": [None if verdict == "inconclusive" else round(saving - 0.14, 3), round(saving + 0.12, 3)],
        "label_ratio": None if never else round(1 - saving, 3),
        "label_ratio_ci": [round(0.88 - saving, 3), None if verdict == "inconclusive" else round(1.14 - saving, 3)],
        "censored": never,
        "censored_share": 0.62 if never else 0.0,
        "labels_to_target": None if never else round(512 * (1 - saving), 1),
        "endpoint": round(0.4 * gain, 2),
        "endpoint_ci": [round(0.4 * gain - 0.6, 2), round(0.4 * gain + 0.6, 2)],
        "wins": int(np.clip(round(5 + 3 * gain / spread), 0, 10)),
        "collapses": ["7"] if verdict == "inconclusive" and name == "BADGE" else [],
        "seconds_query": {"LeastConfidence": 0.011, "Margin": 0.012, "BADGE": 0.214, "KMeans": 0.163}[name],
        "seconds_fit": 0.082,
    }


def _cost(verdict: str) -> dict[str, Any] | None:
    if verdict == "inconclusive":
        return None
    saved, half = (197.0, 68.0) if verdict == "promising" else (2.0, 11.0)
    return {"name": "Margin" if verdict == "promising" else "BADGE", "label_cost": 1.5, "hour_cost": 4.0,
            "labels_saved": saved, "ci": [saved - half, saved + half], "money_saved": 1.5 * saved,
            "money_ci": [1.5 * (saved - half), 1.5 * (saved + half)], "hours": 3.2, "compute_cost": 12.8,
            "net": 1.5 * saved - 12.8,
            "net_ci": [1.5 * (saved - half) - 12.8, 1.5 * (saved + half) - 12.8]}  # fmt: skip


def _design(verdict: str, generator: np.random.Generator) -> dict[str, Any]:
    """The random design: variance, curve, headroom and the article's reading of it."""
    icc, ends = {"promising": (0.71, [0.48, 0.86]), "not_promising": (0.22, [0.0, 0.52]),
                 "inconclusive": (0.12, [0.0, 0.41])}[verdict]  # fmt: skip
    total, rise = (0.3, 0.9) if verdict == "not_promising" else (1.4, 30.0)
    by_fraction, points = [], []
    for fraction in (0.2, 0.4, 0.6, 0.8, 1.0):
        labels = round(800 * fraction)
        mean = 91 - rise * (labels / 60) ** -0.55
        buckets = generator.normal(mean, total * max(icc, 0) ** 0.5 / fraction**0.4, (5, 1))
        values = generator.normal(buckets, total * (1 - icc) ** 0.5 / fraction**0.4, (5, 3))
        centre, half = float(values.mean()), 1.96 * float(values.mean(axis=1).std(ddof=1)) / 5**0.5
        ends_of_mean = _rounded([centre - half, centre + half])
        by_fraction.append({"fraction": fraction, "labels": labels, "mean": round(centre, 2), "ci": ends_of_mean,
                            "values": _rounded(values)})  # fmt: skip
        points.append({"labels": labels, "mean": round(centre, 2), "low": ends_of_mean[0], "high": ends_of_mean[1]})
    fit = [{"labels": int(n), "mean": round(91 - rise * (n / 60) ** -0.55, 2)} for n in np.linspace(60, 4000, 40)]
    for each in fit:
        half = 0.05 * rise * (0.4 + abs(np.log(each["labels"] / 500)) / 2)
        each.update(low=round(each["mean"] - half, 2), high=round(each["mean"] + half, 2))
    legacy = {name: _article(by_fraction, offset) for name, offset in
              (("accuracy", 0.0), ("precision", -1.2), ("recall", -1.9))}  # fmt: skip
    first, last = fit[0]["mean"], fit[-1]["mean"]
    return {
        "variance": {"sigma_training": round(total * (1 - icc) ** 0.5, 2), "sigma_data": round(total * icc**0.5, 2),
                     "icc": icc, "icc_ci": ends, "f": round(1 + 3 * icc / (1 - icc), 2),
                     "p": 0.0002 if icc > 0.5 else 0.18, "by_fraction": by_fraction,
                     "superiority": {"fractions": [0.2, 0.4, 0.6, 0.8, 1.0],
                                     "rows": _rounded(np.tril(generator.uniform(0.7, 1, (5, 5)), -1))}},
        "curve": {"a": 2.85, "b": 0.55, "c": 0.09, "ci": {"a": [2.1, 3.9], "b": [0.46, 0.65], "c": [0.07, 0.11]},
                  "points": points, "fit": fit,
                  "labels_for": [{"metric": 80.0, "labels": 442, "ci": [391, 520], "beyond": False},
                                 {"metric": 88.0, "labels": 3921, "ci": [2417, None], "beyond": False},
                                 {"metric": 95.0, "labels": None, "ci": [None, None], "beyond": True}]},
        "headroom": {"value": round(last - first, 2), "initial": first, "all": last,
                     "ci": [round(0.9 * (last - first), 2), round(1.1 * (last - first), 2)]},
        "legacy": {"metrics": legacy, "rule_of_thumb": verdict == "not_promising",
                   "least_confidence": {"delta": 1.1, "ci": [0.41, 1.79], "below_random": "in 1 of 10 replicates",
                                        "best_other": "Margin, +2.60"},
                   "paragraph": "The rule cannot tell a spread that comes from which data were labeled from one that "
                                "comes from training, and a curve that is flat overlaps trivially. In simulations it "
                                "fired where active learning could not help and stayed silent where it did."},
    }  # fmt: skip


def _article(by_fraction: list[dict[str, Any]], offset: float) -> dict[str, Any]:
    values = [_rounded(np.mean(each["values"], axis=1) + offset) for each in by_fraction[:4]]
    best, worst = max(values[0]), min(values[3])
    return {"fractions": [0.2, 0.4, 0.6, 0.8], "values": values, "overlap": min(values[3]) < max(values[1]),
            "best_20": best, "worst_80": worst, "rule": best > worst}  # fmt: skip


def _pathology(verdict: str, generator: np.random.Generator) -> dict[str, Any]:
    def odd(share: float, pool: float) -> dict[str, Any]:
        ratio = round(share / pool, 2)
        return {"share": share, "ci": [round(0.8 * share, 3), round(1.2 * share, 3)], "pool": pool, "ratio": ratio}

    spam = 0.31 if verdict == "promising" else 0.07
    by_strategy = [
        {"name": name, "picks": 480, "outliers": odd(round(0.6 * junk, 3), 0.05), "near_duplicates": odd(0.021, 0.034),
         "label_disagreement": odd(round(junk, 3), 0.062), "junk": odd(junk, 0.08), "rare_recall": None, "sheet": None}
        for name, junk in (("random", 0.08), ("LeastConfidence", spam), ("Margin", 0.12), ("BADGE", 0.1),
                           ("KMeans", 0.09))
    ]  # fmt: skip
    confidence = generator.beta(4, 1.3, 1200)
    variability = np.sqrt(confidence * (1 - confidence)) * generator.uniform(0.3, 0.95, 1200)
    correctness = np.clip(confidence + generator.normal(0, 0.15, 1200), 0, 1)
    return {"by_strategy": by_strategy, "label_noise": {"rate": 0.034, "ci": [0.027, 0.042]},
            "duplicates_in_pilot": {"share": 0.034}, "notes": ["Distances are cosine distances of embeddings."],
            "dataset_map": {"confidence": _rounded(confidence, 3), "variability": _rounded(variability, 3),
                            "correctness": _rounded(correctness)}}  # fmt: skip
