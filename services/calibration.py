"""The calibration file: the verdict rule's numbers with the digests of what they were fitted for.

JSON: ``{"preprocessing", "base", "embedder": digests, "adapter": {name: digest}, "rules": {mode: {variant: {bias,
weight_vlm, weight_vote, normal_below, mounting_above}}}}``. Written by the demo builder's calibrate stage.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.errors import MismatchError, ResourceError
from services.schema import Calibration, RetrievalMode, VariantName


@dataclass(frozen=True, slots=True)
class CalibrationFile:
    """``digests``: what the numbers were fitted for (preprocessing, base, embedder, library)."""

    rules: dict[str, dict[str, Calibration]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    adapters: dict[str, str] = field(default_factory=dict)

    def rule(self, mode: RetrievalMode, variant: VariantName) -> Calibration | None:
        """The numbers fitted for this mode and variant, None where nothing was fitted."""
        return self.rules.get(mode, {}).get(variant)

    def require(self, path: Path, **digests: str) -> None:
        """Raise MismatchError if one of ``digests`` is not what this file was fitted for."""
        for name, digest in digests.items():
            stored = self.digests.get(name)
            if stored != digest:
                raise MismatchError(
                    f"{path.name} was fitted for {name} {str(stored)[:12]}, but this profile has {digest[:12]}; "
                    "run 'python -m training.demo.build --from calibrate' to fit it again."
                )


def read_calibration(path: Path) -> CalibrationFile:
    """The file at ``path``; ResourceError if it is missing or malformed."""
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rules = {
            mode: {variant: Calibration(**numbers) for variant, numbers in variants.items()}
            for mode, variants in table["rules"].items()
        }
        digests = {key: value for key, value in table.items() if isinstance(value, str)}
        return CalibrationFile(rules=rules, digests=digests, adapters=dict(table.get("adapter") or {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResourceError(f"The calibration file {path} is missing or malformed ({error}).") from error
