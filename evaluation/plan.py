"""What a run is to do: options to settings, checked before any model loads."""

from __future__ import annotations

from pathlib import Path

from evaluation.data import Item, read_data
from evaluation.records import RunSettings
from services.errors import InputError
from services.schema import VariantName
from services.settings import profile


def planned(data: Path, mode: str, profile_name: str, **options: object) -> tuple[RunSettings, list[Item]]:
    """Settings and clips of a run; InputError where options contradict each other. ``retrieval`` None: off for
    ``vlm``, else the profile's."""
    chosen = profile(profile_name)
    if options.get("retrieval") is None:
        options["retrieval"] = "off" if mode == "vlm" else chosen.retrieval
    items, digest = read_data(data)
    settings = RunSettings(
        mode=mode, data=str(data), data_sha256=digest, profile=profile_name, neighbours=chosen.neighbours, **options
    )
    _require_sense(settings, chosen.scoring)
    return settings, items[: settings.limit]


def _require_sense(settings: RunSettings, scoring: str) -> None:
    mode, off = settings.mode, settings.retrieval == "off"
    problems = {
        "Mode 'vlm' is the model without retrieval; leave --retrieval off or choose mode 'rag'.": mode == "vlm"
        and not off,
        f"Mode {mode!r} needs references; choose --retrieval contrastive or nearest.": mode in ("rag", "knn") and off,
        "--context and --swap-labels change references; choose a retrieval other than off.": off
        and (settings.context is not None or settings.swap_labels),
        "--context changes what the model reads, and mode 'knn' asks no model; leave it out.": mode == "knn"
        and settings.context is not None,
        "--frames needs a mode in which the model sees the video; 'text' shows none.": mode == "text"
        and settings.frames is not None,
        "--scored-only leaves out the reasoning, but this profile scores behind it; leave the option out.": scoring
        != "direct"
        and settings.scored_only,
        "--limit must be at least 1.": settings.limit is not None and settings.limit < 1,
    }
    for sentence, wrong in problems.items():
        if wrong:
            raise InputError(sentence)


def variants_of(choice: str) -> tuple[VariantName, ...]:
    return ("base", "tuned") if choice == "both" else (choice,)  # type: ignore[return-value]
