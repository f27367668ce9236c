"""The builder's stages: each reads the work folder or what was shipped by the stage before it, and writes its part."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor

from services.adapters import RECORD, AdapterRegistry
from services.dialog import contract
from services.model_identity import identify
from services.schema import Calibration, digest_of
from services.settings import ROOT, environment_with, profile
from training.demo import known_answers, language, novelty_fit, quality_data, references, samples, tower, video_mae
from training.demo import vision as vision_stage
from training.demo.adapter import fine_tune, go_on_with_cases, taught_reason, when
from training.demo.bundle import Bundle
from training.demo.cache import features
from training.demo.calibrate import fit, write
from training.demo.figures_file import begin_anew
from training.demo.references import reason_of
from training.demo.scoring import MODES, VARIANTS, probabilities
from training.demo.together import ONE_THREAD, launch

RECODED = 160
"""Calibration clips that are also coded anew for the novelty measure."""
COMPARED = 1500
"""Training clips that the novelty measure compares with."""
LANGUAGE_CLIPS = {"adapter": 4000}
"""What the text model is trained on: the adapter's clips, but never with the mounting question. Of the clips that the
tower was trained on it tells more than of others, and whoever learns to read it there trusts it too much."""


def clips(bundle: Bundle) -> None:
    """Render every set that is trained on; held-out sets are rendered by the card."""
    bundle.render(["base", "scenes", "adapter", "steps", "library", "calibration"])


def vision(bundle: Bundle) -> None:
    minutes = vision_stage.Settings.minutes * bundle.scale
    flags = ["--work", str(bundle.work), "--minutes", str(minutes)]
    launch("training.demo.vision", flags, bundle.work)


def base(bundle: Bundle) -> None:
    """The text model on the frozen tower, which comes from the work folder or from the shipped base."""
    start = next(place for place in (bundle.work / "vision", bundle.base) if place.exists())
    sets = [f"{name}:{len(bundle.stored(name, most))}" for name, most in LANGUAGE_CLIPS.items()]
    flags = ["--work", str(bundle.work), "--base", str(start), "--out", str(bundle.base), "--sets", *sets]
    for name in language.STEPS:
        flags += [f"--{name.replace('_', '-')}", str(math.ceil(getattr(language.Settings, name) * bundle.scale))]
    launch("training.demo.language", flags, bundle.work)


def embedder(bundle: Bundle) -> None:
    sets = [bundle.stored(name) for name in ("base", "adapter")]
    folder = bundle.folder / "embedder"
    own = video_mae.Settings()
    minutes, masked = own.minutes * bundle.scale, own.minutes_masked * bundle.scale
    trained = video_mae.train(sets, replace(own, minutes=minutes, minutes_masked=masked))
    shutil.rmtree(folder, ignore_errors=True)
    video_mae.save(trained, folder)


def library(bundle: Bundle) -> None:
    stored = bundle.stored("library")
    references.build(stored, bundle.vectors(stored), bundle.provenance, bundle.folder / "library")


def novelty(bundle: Bundle) -> None:
    """The measure compares whole clips: sets that only train have no pictures between."""
    originals = bundle.stored("calibration")
    again = [novelty_fit.recoded(note["seed"])[0][::2] for note in originals.notes[-RECODED:]]
    again_vectors = video_mae.vectors_of(bundle.embedder, np.stack([tower.patches(clip) for clip in again]))
    own = video_mae.vectors(bundle.embedder, originals)
    trained = bundle.stored("adapter")
    vectors = video_mae.vectors(bundle.embedder, trained, limit=COMPARED)
    found = novelty_fit.fit(trained, vectors, originals, own, again, again_vectors)
    found.save(bundle.folder / "embedder")


def adapter(bundle: Bundle) -> None:
    torch.set_num_threads(1)  # two threads wait for each other when anything runs beside them
    chosen, cases = profile("demo"), bundle.stored("library")
    known = (cases, features(bundle.base, cases))
    counts = {name: bundle.count(most) for name, most in ADAPTER_CLIPS.items()}
    taught = [(taught_reason(note), reason_of(note), *(turn.text for turn in when(note))) for note in cases.notes]
    first = _run_folder(bundle, ADAPTER, counts, taught)
    if not (first / RECORD).is_file():
        sets = [bundle.stored(name, most) for name, most in ADAPTER_CLIPS.items()]
        clips = [(stored, features(bundle.base, stored)) for stored in sets]
        mirrored = [(stored, features(bundle.base, stored, mirrored=True)) for stored in sets]
        fine_tune(chosen, bundle.base, first, clips, mirrored, known, **ADAPTER)
    again = bundle.stored("adapter", AGAIN_CLIPS)
    seen = features(bundle.base, again)
    runs = [first]
    for number, own in enumerate(AGAIN):
        runs.append(_run_folder(bundle, ADAPTER, counts, taught, AGAIN[: number + 1], len(again)))
        if not (runs[-1] / RECORD).is_file():
            go_on_with_cases(chosen, bundle.base, runs[-1], (again, seen), known, start=runs[-2], seed=number, **own)
    *before, last = runs
    _ship(last, bundle.adapter)
    for run in before:
        (run / RECORD).unlink()  # what is half deleted is not gone on with
        shutil.rmtree(run)


def _run_folder(bundle: Bundle, *recipe: object) -> Path:
    """Of a run of the adapter: what another recipe, base, library or wording left is not gone on with."""
    return bundle.work / "adapter" / f"{identify(bundle.base).weights[:12]}-{digest_of(list(recipe))[:12]}"


ADAPTER_CLIPS = {"adapter": 4000, "steps": 400}
ADAPTER = {
    "epochs": 2, "batch": 16, "validation_share": 0.04, "patience": 6, "save_every": 100, "bare_share": 0.15,
    "rank": 64, "alpha": 64,
}  # fmt: skip
"""The bare verdict is three tokens, a reason fifty: with equal shares what the reason says would hardly be learnt. With
rank 16 not even the training clips' times were learnt."""
AGAIN_CLIPS = 3600
"""Of the set *adapter*, for the runs that go on."""
_AGAIN: dict[str, Any] = {
    **ADAPTER, "epochs": 1, "validation_share": 0.02, "save_every": 50, "learning_rate": 1.5e-3,
}  # fmt: skip
AGAIN = ({**_AGAIN, "context_share": 1.0}, {**_AGAIN, "context": "contrastive"})


def quality(bundle: Bundle) -> None:
    """The quality adapter, by ``training/Qlora_train.py`` itself on degraded renders written as files."""
    folder = bundle.work / "quality" / "train"
    quality_data.make(bundle.count(QUALITY_MEDIA), QUALITY_SEED, folder, processes=2, quiet=True)
    output = bundle.work / "quality" / f"adapter-{identify(bundle.base).weights[:12]}"
    command = [sys.executable, str(ROOT / "training" / "Qlora_train.py"), "--data", str(folder / "annotations.json")]
    command += ["--task", "quality", "--name", "quality", "--model", str(bundle.base), "--output", str(output)]
    command += [*QUALITY, "--resume"]
    if subprocess.run(command, check=False, env=environment_with(ONE_THREAD)).returncode:
        raise RuntimeError("the quality adapter could not be trained")
    _ship(output, bundle.quality_adapter)


def _ship(output: Path, folder: Path) -> None:
    """Put a finished adapter in its place in the bundle; the run's folder goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in output.iterdir():
        if file.is_file() and file.suffix in ADAPTER_FILES:
            shutil.copy(file, folder / file.name)
    shutil.rmtree(output)


QUALITY_SEED, QUALITY_MEDIA = 500_000, 1000
QUALITY = ("--epochs", "6", "--batch", "16", "--validation-share", "0.05", "--save-every", "200")
ADAPTER_FILES = (".json", ".safetensors", ".md", ".csv", ".png")
"""Not the settings, whose paths are of the machine that it was built on."""


def sample_clips(bundle: Bundle) -> None:
    samples.write(bundle.folder / "samples")


def calibrate(bundle: Bundle) -> None:
    """The rule per mode and variant, with the digests of everything it was fitted for."""
    seen = bundle.seen("calibration")
    votes = bundle.votes("calibration")
    rules: dict[str, dict[str, Calibration]] = {mode: {} for mode in MODES}
    for variant in VARIANTS:
        scores = bundle.scores(variant, "calibration")
        for mode in MODES:
            p = probabilities(scores[mode])
            rules[mode][variant] = fit(p, None if mode == "off" else votes, seen.mounting)
    write(bundle.folder / "calibration.json", rules, digests(bundle))


def digests(bundle: Bundle) -> dict[str, object]:
    """What a calibration is tied to."""
    chosen = profile("demo")
    rule = contract(AutoProcessor.from_pretrained(bundle.base), chosen.sampling, chosen.min_pixels, chosen.max_pixels)
    record = AdapterRegistry([bundle.adapter], bundle.work / "no-adapters").get("mounting")
    return {
        "preprocessing": rule.digest,
        "base": identify(bundle.base).weights,
        "embedder": digest_of(bundle.provenance),
        "adapter": {"mounting": record.digest},
    }


def card(bundle: Bundle) -> None:
    """Figures anew, two processes side by side; CARD.md is written when the stage's time is known."""
    begin_anew(bundle.folder)
    bundle.render(["test", "new", "second", "calibration"])
    for name in ("test", "new", "second", "calibration", "library"):
        features(bundle.base, bundle.stored(name))
    command = [
        sys.executable,
        "-m",
        "training.demo.figures",
        "--bundle",
        str(bundle.folder),
        "--work",
        str(bundle.work),
        "--scale",
        str(bundle.scale),
    ]
    runs = [subprocess.Popen([*command, "--sets", *sets]) for sets in (("test",), ("new", "second"))]
    spoilt = [part.replace("training.demo.figures", "training.demo.quality_figures") for part in command]
    if any([run.wait() for run in runs]) or subprocess.run(spoilt, check=False).returncode:
        raise RuntimeError("the figures could not be measured")
    service = bundle.service()
    try:
        known_answers.write(service, bundle.folder)
    finally:
        service.close()


def recipe() -> dict[str, float]:
    """The settings that CARD.md names."""
    own = language.Settings()
    return {
        "vision_minutes": vision_stage.Settings.minutes,
        **{name: getattr(own, name) for name in language.STEPS},
        "epochs": ADAPTER["epochs"],
        "rank": ADAPTER["rank"],
        "again": AGAIN_CLIPS,
        "quality_media": QUALITY_MEDIA,
        "quality_seed": QUALITY_SEED,
        "quality_epochs": float(QUALITY[QUALITY.index("--epochs") + 1]),
    }


STAGES: dict[str, Callable[[Bundle], None]] = {
    "clips": clips,
    "vision": vision,
    "base": base,
    "embedder": embedder,
    "library": library,
    "novelty": novelty,
    "adapter": adapter,
    "quality": quality,
    "samples": sample_clips,
    "calibrate": calibrate,
    "card": card,
}


def done_file(work: Path, stage: str) -> Path:
    """What a finished stage leaves."""
    return work / "done" / stage
