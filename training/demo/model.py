"""The demo's tiny Qwen3-VL: stock architecture, own tokenizer, own chat template.

``python -m training.demo.model --random OUT`` writes a loadable bundle with random weights (tests use it).

Everything is stock transformers: ``AutoProcessor.from_pretrained`` and ``Qwen3VLForConditionalGeneration`` load it.
Dimensions are multiples of 64, so that NF4 blocks fit. The chat template writes ``<|video_pad|>`` alone, because the
processor puts the vision marks around every group of frames itself; around images it does not, so there the template
writes them, as the stock one does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from training.demo.corpus import tokenizer_texts

PAD, END, START = "<|endoftext|>", "<|im_end|>", "<|im_start|>"
SPECIALS = (
    PAD,
    START,
    END,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<think>",
    "</think>",
)
VOCABULARY = 1408
"""Upper bound of the tokenizer's size and exact size of the embedding (a multiple of 64)."""

HIDDEN = 192
PIXEL_MEAN = PIXEL_STD = (0.5, 0.5, 0.5)

WORDS = r"\p{N}+\.\p{N}|\p{N}| ?\p{L}+(?:-\p{L}+)*| ?[^\s\p{L}\p{N}]|\n| +"
"""Pre-tokens: a time with one decimal in one piece (the same piece in ``<1.3 seconds>`` and in an answer, so that a
small model can copy it), single digits, words with their leading space, single marks."""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for item in message.content -%}
{%- if item.type == 'image' -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- elif item.type == 'video' -%}
<|video_pad|>
{%- elif item.type == 'text' -%}
{{ item.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE learnt on ``texts``; at most VOCABULARY tokens, the special ones first."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=1,
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[t for t in SPECIALS[:7] if t not in (PAD, END)],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def processor(texts: Iterable[str]) -> Qwen3VLProcessor:
    """Tokenizer, picture and video processors and chat template in one."""
    sizes = {"shortest_edge": 16384, "longest_edge": 30400}
    common = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2}
    normal = {"image_mean": list(PIXEL_MEAN), "image_std": list(PIXEL_STD)}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=sizes, **common, **normal),
        tokenizer=tokenizer(texts),
        video_processor=Qwen3VLVideoProcessor(
            size={"shortest_edge": 16384, "longest_edge": 30400 * 16}, **common, **normal
        ),
        chat_template=CHAT_TEMPLATE,
    )


def config(of: Qwen3VLProcessor) -> Qwen3VLConfig:
    """The architecture, about 5.9 M parameters; token ids are those of ``of``."""
    ids = {name: of.tokenizer.convert_tokens_to_ids(name) for name in SPECIALS}
    return Qwen3VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
            },
            "pad_token_id": ids[PAD],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 4,
            "hidden_size": HIDDEN,
            "intermediate_size": 512,
            "num_heads": 3,
            "patch_size": 16,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "out_hidden_size": HIDDEN,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [1, 2],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def random_model(of: Qwen3VLProcessor, seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """Untrained weights, float32, drawn from ``seed``."""
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config(of))
    pad, end = (of.tokenizer.convert_tokens_to_ids(name) for name in (PAD, END))
    model.generation_config = GenerationConfig(eos_token_id=[end, pad], pad_token_id=pad, do_sample=False)
    return model


def save(model: Qwen3VLForConditionalGeneration, of: Qwen3VLProcessor, folder: Path) -> None:
    """Write the bundle: weights in bfloat16 (rounded copies; ``model`` keeps its own), processor, template."""
    folder.mkdir(parents=True, exist_ok=True)
    rounded = {
        name: value.to(torch.bfloat16) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder, state_dict=rounded)
    of.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write an untrained demo model, loadable like a real one.")
    parser.add_argument("--random", type=Path, required=True, metavar="OUT")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    of = processor(tokenizer_texts())
    save(random_model(of, arguments.seed), of, arguments.random)


if __name__ == "__main__":
    main()
