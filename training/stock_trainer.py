"""The same fine-tuning by transformers' Trainer with a minimal collator, for comparison: ``make bench`` runs both.

.venv/bin/python -m training.stock_trainer --data FILE --epochs 3 --batch 4       prints one JSON object

Stock throughout: the NF4 base as ``from_pretrained`` gives it, PEFT's LoRA, Trainer's own loop. Its collator decodes
the clips and calls the processor for each batch, and the tower runs in every pass. What would blur the comparison
is kept equal: base, seed and so LoRA's beginning, precision, optimizer, learning rates, questions, answers, and the
clips of each batch. Nothing of this is used by training itself.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, Trainer, TrainingArguments

from agent.prompts import mounting_question
from services.dialog import Dialog, messages, mounting_target
from services.errors import HerdLensError, InputError
from services.settings import quiet_libraries
from training.base import base_folder, load_dialog
from training.data import Sample, from_annotations
from training.dry_run import examine
from training.features import FrameReader
from training.precision import settled
from training.settings import TrainConfig, from_profile
from training.steps import plan, rate
from training.targets import pattern
from training.trainer import media_reader

IGNORED = -100
"""The label of places that are not learnt, as transformers reads it."""


def fine_tune(config: TrainConfig, samples: Sequence[Sample], order: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Train on the batches of ``order`` (indices into ``samples``). Returns ``seconds`` of Trainer's loop and the
    ``losses`` of its steps."""
    torch.manual_seed(config.seed)
    dialog = load_dialog(config)
    model = _model(config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99))
    schedule = LambdaLR(optimizer, lambda step: rate(config, step, len(order)) / config.learning_rate)
    with tempfile.TemporaryDirectory() as folder, media_reader(config) as read:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=config.batch,
                num_train_epochs=1,
                max_grad_norm=config.clip_norm,
                bf16=config.precision == "bf16",
                use_cpu=config.device == "cpu" or not torch.cuda.is_available(),
                train_sampling_strategy="sequential",
                remove_unused_columns=False,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                seed=config.seed,
            ),
            train_dataset=[samples[index] for batch in order for index in batch],
            data_collator=_Collator(dialog, read),
            compute_loss_func=_loss,
            optimizers=(optimizer, schedule),
        )
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row]}


def _model(config: TrainConfig) -> Any:
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(
        base_folder(config.model),
        local_files_only=True,
        dtype=torch.bfloat16 if config.device != "cpu" and torch.cuda.is_available() else torch.float32,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=["model.visual", "lm_head"],
        ),
    )
    model.requires_grad_(False)
    model.config.use_cache = False
    wanted = pattern(model, config.targets)
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=wanted,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, settings)


class _Collator:
    """Decodes the clips of a batch and calls the processor for them."""

    def __init__(self, dialog: Dialog, read: FrameReader) -> None:
        self._dialog = dialog
        self._read = read

    def __call__(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        rows = [self._row(sample) for sample in samples]
        padding = {"input_ids": self._dialog.tokenizer.pad_token_id, "labels": IGNORED, "mm_token_type_ids": 0}
        batch = {
            key: pad_sequence([row[key] for row in rows], batch_first=True, padding_value=value)
            for key, value in (padding | {"attention_mask": 0}).items()
        }
        for key in ("pixel_values_videos", "video_grid_thw"):
            batch[key] = torch.cat([row[key] for row in rows])
        return batch

    def _row(self, sample: Sample) -> dict[str, torch.Tensor]:
        path = sample.media[0].path
        if sample.label is None or path is None:
            raise InputError(f"{sample.title} is no clip with a label; the comparison knows only these.")
        prompt = self._dialog.prompt(messages(mounting_question("off", [])), [self._read(path, "video")])
        answer = self._dialog.answer_ids(mounting_target(sample.label, sample.reason))[0]
        asked = prompt["input_ids"][0]
        return {
            "input_ids": torch.cat([asked, answer]),
            "labels": torch.cat([torch.full_like(asked, IGNORED), answer]),
            "attention_mask": torch.ones(len(asked) + len(answer), dtype=torch.int64),
            "mm_token_type_ids": torch.cat([prompt["mm_token_type_ids"][0], torch.zeros_like(answer)]),
            "pixel_values_videos": prompt["pixel_values_videos"],
            "video_grid_thw": prompt["video_grid_thw"],
        }


def _loss(outputs: Mapping[str, torch.Tensor], labels: torch.Tensor, **_: Any) -> torch.Tensor:
    """Mean over samples of the mean over their answer tokens: what training.steps weighs."""
    logits, target = outputs["logits"][:, :-1].float(), labels[:, 1:]
    found = functional.cross_entropy(logits.transpose(1, 2), target, ignore_index=IGNORED, reduction="none")
    return (found.sum(1) / (target != IGNORED).sum(1)).mean()


def main(
    data: Annotated[Path, typer.Option(help="Annotation JSON.")],
    profile: Annotated[str, typer.Option()] = "demo",
    model: Annotated[str | None, typer.Option()] = None,
    epochs: Annotated[int, typer.Option()] = 3,
    batch: Annotated[int, typer.Option()] = 4,
    learning_rate: Annotated[float, typer.Option()] = 2e-3,
    precision: Annotated[str, typer.Option()] = "auto",
    device: Annotated[str, typer.Option()] = "auto",
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Fine-tune with transformers' Trainer and print what it took."""
    chosen = from_profile(
        profile,
        model,
        output=Path("unused"),
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        precision=precision,
        device=device,
        seed=seed,
        dropout=0.0,
        context="off",
        bare_share=0.0,
        validation_share=0.0,
    )
    config = settled(chosen)
    samples = from_annotations(data)
    with media_reader(config) as read:  # lengths form the batches; not part of what is timed
        counts = examine(config, samples, None, read).counts
    lengths = [item.tokens for item in counts.samples]
    order = [part for epoch in range(epochs) for part in plan(lengths, config.batch, config.seed, epoch)]
    if any(len(part) != config.batch for part in order):
        raise InputError(
            f"{len(samples)} clips do not fill batches of {config.batch}; take a number that divides them."
        )
    found = fine_tune(config, samples, order)
    print(json.dumps({"samples": len(samples) * epochs, **found}))


if __name__ == "__main__":
    quiet_libraries()
    try:
        typer.run(main)
    except HerdLensError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
