"""One Qwen-VL model in this process: load it, look at a clip once, score and generate for several adapters at once.

Not thread-safe by itself; ``scheduler.Scheduler`` is its only caller. A batch is one prompt about one clip, asked of
several variants: every row has the same input ids, and PEFT applies each row's adapter (``__base__``: none), so the
vision tower and the prompt's processing run once for all. Vision-side adapters would break this and are not served.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, GenerationConfig
from transformers.cache_utils import DynamicCache
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from services.chat.generation import Generation, scoring_prefix
from services.chat.resident import ResidentAdapters
from services.chat.streaming import RowStreamer
from services.dialog import Dialog, Message, Picture, load_dialog
from services.errors import ModelError
from services.full_memory import full_memory_told
from services.schema import Frames, Sampling

UNQUANTISED = ("model.visual", "lm_head")
"""What stays in the profile's type under NF4, as in training: adapters are trained and served on the same base."""


class Row(Protocol):
    """One variant's side of a batch: its adapter (None: base), a sink for token ids, and whether it was cancelled."""

    adapter: str | None

    def on_token(self, token: int) -> None: ...

    def is_cancelled(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class RowResult:
    """``ids``: generated tokens without the terminator; ``scores``: summed log-probability of each option."""

    ids: list[int]
    finish_reason: str
    scores: tuple[float, ...] | None


@dataclass(slots=True)
class Counts:
    """How often the expensive parts ran; the bench and a test read them."""

    vision: int = 0
    prefill: int = 0


class _Cancelled(StoppingCriteria):
    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.tensor([row.is_cancelled() for row in self._rows], device=input_ids.device)


FULL = "The model ran out of memory on this clip; use a shorter window or a profile with a smaller model."


class Engine:
    """The resident base model with any number of adapters."""

    def __init__(self, model: Any, dialog: Dialog, *, vision_cache: int = 8) -> None:
        self._residents = ResidentAdapters(model, dialog)
        self.dialog = dialog
        self.counts = Counts()
        self._vision: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._vision_limit = vision_cache

    @property
    def device(self) -> torch.device:
        return self._residents.device

    def ensure_adapter(self, name: str, folder: Path, digest: str) -> None:
        """Make the (already validated) adapter resident under ``name``; a changed digest replaces the old weights.
        Raises AdapterError when it does not fit the base or changes nothing."""
        self._residents.ensure(name, folder, digest)

    # ---- one batch -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    @full_memory_told(ModelError, FULL)
    def run(
        self,
        clip_key: str,
        clips: Sequence[Frames],
        turns: Sequence[Message],
        rows: Sequence[Row],
        generation: Generation,
        prefill: str = "",
        options: Sequence[str] = (),
        images: Sequence[Picture] = (),
    ) -> list[RowResult]:
        """Score ``options`` after ``prefill`` and generate an answer, for every row. Sampling aside, a row's result
        does not depend on its companions. ``clip_key`` names what ``clips`` and ``images`` show: their vision features
        are kept under it. Raises ModelError when the model fails."""
        inputs, features = self._prepare(clip_key, clips, images, turns)
        n, length = len(rows), inputs["input_ids"].shape[1]
        ids = inputs["input_ids"].expand(n, -1)
        names = self._names(rows)
        cache = DynamicCache(config=self._model.config.get_text_config())
        self.counts.prefill += 1
        self._model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **_media(inputs, features, n),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **names,
        )
        scores: list[tuple[float, ...] | None] = [None] * n
        if options and generation.scoring == "direct":
            scores = self._score(cache, length, [prefill] * n, options, names)
        # Scored directly, the model knows the bare verdict as an answer too; what is generated has to be the reason.
        unwanted = self.dialog.text_ids(prefill)[0, :1].tolist() if prefill and generation.scoring == "direct" else []
        generated = self._generate(ids, cache, length, rows, generation, names, unwanted)
        if options and generation.scoring == "after_reasoning":
            prefixes = [
                scoring_prefix(self._text(tokens), prefill, inside=self.dialog.opens_thoughts) for tokens in generated
            ]
            scores = self._score(cache, length, prefixes, options, names)
        stop = self._stop_ids
        return [
            RowResult(
                ids=[token for token in tokens if token not in stop],
                finish_reason=(
                    "cancelled" if row.is_cancelled() else "stop" if tokens and tokens[-1] in stop else "length"
                ),
                scores=score,
            )
            for row, tokens, score in zip(rows, generated, scores, strict=True)
        ]

    def _prepare(
        self, key: str, clips: Sequence[Frames], images: Sequence[Picture], turns: Sequence[Message]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The processor's inputs, and the vision tower's output for each kind of media that is there."""
        inputs = {name: value.to(self.device) for name, value in self.dialog.prompt(turns, clips, images).items()}
        if not clips and not images:
            return inputs, {}
        if key not in self._vision:
            self.counts.vision += 1
            self._vision[key] = self._see(inputs)
            while len(self._vision) > self._vision_limit:
                self._vision.popitem(last=False)
        self._vision.move_to_end(key)
        return inputs, self._vision[key]

    def _see(self, inputs: dict[str, Any]) -> dict[str, Any]:
        base, dtype, seen = self._residents.base(), self._model.dtype, {}
        if "pixel_values" in inputs:
            pixels, grid = inputs["pixel_values"].to(dtype), inputs["image_grid_thw"]
            seen["image"] = base.get_image_features(pixels, grid, return_dict=True)
        if "pixel_values_videos" in inputs:
            pixels, grid = inputs["pixel_values_videos"].to(dtype), inputs["video_grid_thw"]
            seen["video"] = base.get_video_features(pixels, grid, return_dict=True)
        return seen

    def _score(
        self, cache: DynamicCache, length: int, prefixes: Sequence[str], options: Sequence[str], names: dict[str, Any]
    ) -> list[tuple[float, ...] | None]:
        """Summed log-probabilities of each complete option (terminator included) after each row's prefix.
        The prompt's cache is reused and cropped back; rows are padded on the right, which causality ignores."""
        totals: list[list[float]] = [[] for _ in prefixes]
        for option in options:
            heads = [self.dialog.text_ids(prefix)[0] for prefix in prefixes]
            tail = self.dialog.answer_ids(option)[0]
            lines = [torch.cat([head, tail]) for head in heads]
            ids = torch.nn.utils.rnn.pad_sequence(lines, batch_first=True).to(self.device)
            _crop(cache, length)
            places = [range(len(head) - 1, len(head) - 1 + len(tail)) for head in heads]
            read = sorted(set().union(*places))  # logits of all the reasoning would take gigabytes
            logits = self._model(
                input_ids=ids,  # no mask: with one, the model would count positions from the prompt's beginning again
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=torch.tensor(read, device=self.device),
                **names,
            ).logits
            logprobs = torch.log_softmax(logits.float(), dim=-1)
            for row, own in enumerate(places):
                start = read.index(own.start)
                picked = logprobs[row, start : start + len(tail)].gather(1, tail.to(self.device)[:, None])
                totals[row].append(float(picked.sum()))
        _crop(cache, length)
        return [tuple(total) for total in totals]

    def _generate(
        self,
        ids: torch.Tensor,
        cache: DynamicCache,
        length: int,
        rows: Sequence[Row],
        generation: Generation,
        names: dict[str, Any],
        unwanted: list[int],
    ) -> list[list[int]]:
        """Generated tokens of each row, the stop token included where it came; none begins with a token of
        ``unwanted``. Starts from the prompt's cache less its last token, which ``generate`` feeds again."""
        stop = self._stop_ids
        config = GenerationConfig(
            max_new_tokens=generation.max_tokens,
            do_sample=generation.temperature > 0,
            repetition_penalty=generation.repetition_penalty,
            eos_token_id=sorted(stop),
            pad_token_id=self.dialog.terminator_id,
            begin_suppress_tokens=unwanted or None,
            **({"temperature": generation.temperature, "top_k": generation.top_k} if generation.temperature else {}),
        )
        _crop(cache, length - 1)
        output = self._model.generate(
            input_ids=ids.contiguous(),
            attention_mask=torch.ones_like(ids),
            past_key_values=cache,
            generation_config=config,
            streamer=RowStreamer([row.on_token for row in rows], stop),
            stopping_criteria=StoppingCriteriaList([_Cancelled(rows)]),
            **names,
        )
        generated = []
        for row in output[:, length:].tolist():
            end = next((i for i, token in enumerate(row) if token in stop), len(row) - 1)
            generated.append(row[: end + 1])
        return generated

    def forget_clips(self) -> None:
        """Drop the cached vision features, as if no clip had been seen; the bench starts from there."""
        self._vision.clear()

    # ---- small parts ---------------------------------------------------------------------------------------------

    @property
    def _model(self) -> Any:
        return self._residents.model

    def _names(self, rows: Sequence[Row]) -> dict[str, Any]:
        return self._residents.names([row.adapter for row in rows])

    @property
    def _stop_ids(self) -> frozenset[int]:
        return frozenset({self.dialog.terminator_id})

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.dialog.tokenizer.decode([t for t in tokens if t != self.dialog.terminator_id]))


def _media(inputs: dict[str, Any], features: dict[str, Any], n: int) -> dict[str, Any]:
    """What tells the model about the pictures of ``n`` identical rows; nothing for a question without a clip, which
    evaluation asks to learn what the words alone give away."""
    if not features:
        return {}
    grids = {f"{kind}_grid_thw": inputs[f"{kind}_grid_thw"].repeat(n, 1) for kind in features}
    return {
        "mm_token_type_ids": inputs["mm_token_type_ids"].expand(n, -1),
        **grids,
        "mm_encoder_outputs": {kind: _repeated(output, n) for kind, output in features.items()},
    }


def _repeated(features: Any, n: int) -> Any:
    """The same encoder output for ``n`` identical rows (lists of per-video tensors are repeated, not copied).
    Qwen3-VL's has features of inner blocks besides; Qwen2-VL's has none."""
    inner = getattr(features, "deepstack_features", None)
    levels = {} if inner is None else {"deepstack_features": [list(level) * n for level in inner]}
    return type(features)(pooler_output=list(features.pooler_output) * n, **levels)


def _crop(cache: DynamicCache, length: int) -> None:
    """Forget everything behind the first ``length`` tokens."""
    surplus = cache.get_seq_length() - length
    if surplus:
        cache.crop(-surplus)


def load_engine(
    source: str | Path,
    sampling: Sampling,
    *,
    min_pixels: int,
    max_pixels: int,
    dtype: str,
    device: str,
    quantisation: str,
) -> Engine:
    """Load base model and processor from a local folder or the local hub cache; never from the network.
    Raises ModelError naming what is missing."""
    dialog = load_dialog(source, sampling, min_pixels, max_pixels)
    try:
        quantised = (
            BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=getattr(torch, dtype),
                llm_int8_skip_modules=list(UNQUANTISED),
            )
            if quantisation == "nf4"
            else None
        )
        model = AutoModelForImageTextToText.from_pretrained(
            str(source),
            dtype=getattr(torch, dtype),
            local_files_only=True,
            use_safetensors=True,
            quantization_config=quantised,
            device_map={"": device} if quantised else None,
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"The base model {source} is not on this machine or incomplete; run 'python -m agent download' "
            "for this profile, or choose the profile 'demo'."
        ) from error
    if not quantised:
        model = model.to(device)
    return Engine(model, dialog)
