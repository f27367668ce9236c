"""Where LoRA attaches in the real checkpoints' architectures: PEFT itself on models without weights (meta device).

.venv/bin/python -m training.architectures          prints the table for every written architecture
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from peft import LoraConfig, get_peft_model

from services.architectures import architectures, described, on_meta, parameters
from services.errors import ModelError
from training.settings import Targets
from training.targets import counted, pattern

CHOICES: tuple[Targets, ...] = get_args(Targets)


@dataclass(frozen=True, slots=True)
class Attached:
    """``modules``: full paths of the linears that carry LoRA; ``trained``: LoRA's parameters; ``total``: the base's."""

    model: str
    targets: Targets
    modules: tuple[str, ...]
    trained: int
    total: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """The linears' own names, such as ``q_proj``, in the order of the model."""
        return tuple(dict.fromkeys(path.rpartition(".")[2] for path in self.modules))

    @property
    def layers(self) -> int:
        """Layers or blocks that carry LoRA."""
        return len({match.group() for path in self.modules if (match := re.match(r".*?(layers|blocks)\.\d+", path))})

    def line(self) -> str:
        """One line for a person."""
        return (
            f"{Path(self.model).name} ({_rounded(self.total)}), {self.targets}: {counted(self.modules)}, "
            f"{self.trained:,} trained parameters"
        )


def attach_report(model: str, targets: Targets = "language", rank: int = 16) -> Attached:
    """Attach LoRA of ``rank`` to ``model`` (a folder with config.json, a written architecture or its hub id) as a run
    would, without weights. ModelError where nothing or something else than the plan is reached."""
    base = on_meta(described(model))
    total = parameters(base)
    wanted = re.compile(pattern(base, targets))
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=wanted.pattern, bias="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT remarks on tied weights, which are not touched
        peft = get_peft_model(base, settings, low_cpu_mem_usage=True)
    modules = tuple(name for name, module in base.named_modules() if hasattr(module, "lora_A"))
    if not modules or any(not wanted.fullmatch(name) for name in modules):
        raise ModelError(f"LoRA does not attach to {model} as planned; this base cannot be trained.")
    trained = sum(parameter.numel() for parameter in peft.parameters() if parameter.requires_grad)
    return Attached(model, targets, modules, trained, total)


def _rounded(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e8 else f"{parameters / 1e6:.1f} M"


def main() -> None:
    """Print where LoRA attaches in every written architecture."""
    for name in architectures():
        for targets in CHOICES:
            print(attach_report(name, targets).line())


if __name__ == "__main__":
    main()
