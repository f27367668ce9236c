"""Stage ``calibrate``: the verdict rule's numbers per retrieval mode and variant, fitted on the calibration set.

A logistic regression on the model's logit and the neighbours' vote (seeds below 1,000,000, never trained on), then
two thresholds: the narrowest *unclear* band for which an upper bound of the share of wrong verdicts among the answered
is at most RISK.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression

from agent.verdict import logit
from services.schema import Calibration

RISK, SURE = 0.02, 0.95
F64 = NDArray[np.float64]


def features(p_vlm: F64, votes: F64 | None) -> F64:
    """(N, 2): what the rule weighs, see ``Calibration``."""
    logits = np.array([logit(float(p)) for p in p_vlm])
    return np.stack([logits, np.zeros_like(logits) if votes is None else 2 * votes - 1], 1)


def fit(p_vlm: F64, votes: F64 | None, mounting: NDArray[np.bool_]) -> Calibration:
    """The rule for one mode and variant. A weight never falls below zero: a model that is wrong more often than
    right is given no say rather than a reversed one."""
    x = features(p_vlm, votes)
    scale = np.array([max(x[:, 0].std(), 1e-6), 1.0])
    used = [0] if votes is None else [0, 1]
    weights, bias = np.zeros(2), 0.0
    while used:
        model = LogisticRegression(C=1.0).fit((x / scale)[:, used], mounting)
        if (model.coef_[0] >= 0).all():
            weights[used] = model.coef_[0] / scale[used]
            bias = float(model.intercept_[0])
            break
        used = [c for c, w in zip(used, model.coef_[0], strict=True) if w >= 0]
    p = 1 / (1 + np.exp(-(bias + x @ weights)))
    below, above = thresholds(p, mounting)
    return Calibration(
        round(bias, 4), round(float(weights[0]), 5), round(float(weights[1]), 5), round(below, 4), round(above, 4)
    )


def thresholds(p: F64, mounting: NDArray[np.bool_], risk: float = RISK) -> tuple[float, float]:
    """(normal_below, mounting_above): the narrowest band around ½ outside of which, with 95 % confidence, no more than
    ``risk`` are wrong (149 answered clips at least); where there is none, the one outside of which the 2 % of either
    side lie that are nearest to 0 and to 1.

    The share itself of these clips would leave a risk that other clips exceed every second time. So its upper bound is
    compared, the exact binomial one at SURE, as in selective classification with guaranteed risk (Geifman and El-Yaniv,
    2017), whose correction for trying many bands is left out: neighbouring bands hold nearly the same clips."""
    for half in np.arange(0.0, 0.4951, 0.005):
        low, high = 0.5 - half, 0.5 + half
        answered = (p <= low) | (p >= high)
        wrong = ((p >= high) & ~mounting) | ((p <= low) & mounting)
        if upper_bound(int(wrong.sum()), int(answered.sum())) <= risk:
            return float(low), float(high)
    return float(min(0.45, np.quantile(p, 0.02))), float(max(0.55, np.quantile(p, 0.98)))


def upper_bound(wrong: int, answered: int) -> float:
    """The one-sided Clopper-Pearson bound at SURE of a share of which ``wrong`` of ``answered`` were seen."""
    return 1.0 if wrong >= answered else float(beta.ppf(SURE, wrong + 1, answered - wrong))


def write(path: Path, rules: Mapping[str, Mapping[str, Calibration]], digests: Mapping[str, Any]) -> None:
    """calibration.json; ``digests``: preprocessing, base, embedder (strings) and adapter (name to digest)."""
    table = {
        **digests,
        "rules": {
            mode: {
                variant: {
                    "bias": c.bias,
                    "weight_vlm": c.weight_vlm,
                    "weight_vote": c.weight_vote,
                    "normal_below": c.normal_below,
                    "mounting_above": c.mounting_above,
                }
                for variant, c in variants.items()
            }
            for mode, variants in rules.items()
        },
    }
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
