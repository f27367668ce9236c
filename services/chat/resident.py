"""The resident base model and the adapters that were put beside it, by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from safetensors import SafetensorError, safe_open

from services.adapters_check import KEY, WEIGHTS
from services.dialog import Dialog
from services.errors import AdapterError

BASE = "__base__"
"""PEFT's name for 'no adapter' in a mixed batch."""

NO_EFFECT = 1e-6
"""Largest change of any logit, relative to the largest logit, that counts as none: float32's own precision."""


class ResidentAdapters:
    """A base model with any number of adapters; ``model`` is PEFT's as long as there is one, else the base itself."""

    def __init__(self, model: Any, dialog: Dialog) -> None:
        self.model = model.eval()
        self._dialog = dialog
        self._digests: dict[str, str] = {}

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def base(self) -> Any:
        """The model without PEFT's wrapping."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    def names(self, rows: Sequence[str | None]) -> dict[str, Any]:
        """What tells the model which adapter each row of a batch uses; None is the base."""
        return {"adapter_names": [_resident(name) for name in rows]} if isinstance(self.model, PeftModel) else {}

    def ensure(self, name: str, folder: Path, digest: str) -> None:
        """Make the (already validated) adapter resident under ``name``; a changed digest replaces the old weights.
        Raises AdapterError when it does not fit the base or changes nothing; the others stay as they were."""
        if self._digests.get(name) == digest:
            return
        try:
            self._require_shapes(name, folder)
            self._drop(name)
            self._load(name, folder)
        except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
            self._drop(name)
            raise AdapterError(f"The adapter {name!r} cannot be loaded on this base model: {error}.") from error
        self._digests[name] = digest
        self._require_effect(name)

    def _load(self, name: str, folder: Path) -> None:
        if not isinstance(self.model, PeftModel):
            settings = PeftConfig.from_pretrained(str(folder))
            settings.inference_mode, settings.base_model_name_or_path = True, None  # PEFT would warn of its name
            self.model = get_peft_model(self.model, settings, _resident(name)).eval()
        self.model.load_adapter(str(folder), adapter_name=_resident(name), is_trainable=False, low_cpu_mem_usage=False)

    def _require_shapes(self, name: str, folder: Path) -> None:
        """Refuse, before anything is loaded, an adapter whose matrices do not fit the base's modules."""
        modules = dict(self.base().named_modules())
        with safe_open(folder / WEIGHTS, "pt") as stored:
            for key in stored.keys():  # noqa: SIM118  (it is no mapping)
                path, side = KEY.fullmatch(key).groups()  # type: ignore[union-attr]  # the folder was validated
                wanted = getattr(modules.get(path), "in_features" if side == "A" else "out_features", None)
                shape = stored.get_slice(key).get_shape()
                if wanted is None or shape[1 if side == "A" else 0] != wanted:
                    raise AdapterError(
                        f"The adapter {name!r} does not fit this base model: {key} has shape {tuple(shape)}, and "
                        f"{f'{wanted} is needed' if wanted else 'there is no such layer'}."
                    )

    def _drop(self, name: str) -> None:
        """Take an adapter, or what a failed load left of it, out of the model."""
        self._digests.pop(name, None)
        if not isinstance(self.model, PeftModel) or _resident(name) not in self.model.peft_config:
            return
        if len(self.model.peft_config) > 1:
            self.model.delete_adapter(_resident(name))
            return
        self.model = self.model.unload()  # PEFT's model cannot run without any adapter

    @torch.inference_mode()
    def _require_effect(self, name: str) -> None:
        """Refuse an adapter that changes no logits: it would silently answer as the base does."""
        ids = self._dialog.text_ids("Status: Mounting").to(self.device)
        # One row at a time: two rows of one product may differ in their last bits without any adapter.
        base, tuned = (
            self.model(input_ids=ids, attention_mask=torch.ones_like(ids), adapter_names=[row]).logits.float()
            for row in (BASE, _resident(name))
        )
        if float((tuned - base).abs().max()) <= NO_EFFECT * float(base.abs().max()):
            self._drop(name)
            raise AdapterError(f"The adapter {name!r} is a no-op: it changes nothing in the model's answers.")


def _resident(name: str | None) -> str:
    """What PEFT calls an adapter here. It keeps adapters as submodules by name, so that ``half``, ``train`` and every
    other attribute of a module could not be one."""
    return BASE if name is None else f"adapter-{name}"
