"""A plugin of the server's CPU build, loaded by vLLM in each of its processes: the base stays the base in company.

On the CPU vLLM multiplies each token with the adapter at its index, and the index of a token without one is −1, which
picks the last adapter: where requests with and without an adapter run together, the base answers with an adapter in it
(vllm-project/vllm pull request 48421; the GPU's kernels skip such tokens). This folder is on the path of the CPU server
only, and changes nothing once vLLM skips them itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import Tensor

_BUILD = "vllm.lora.ops.torch_ops.lora_ops", "vllm.lora.punica_wrapper.punica_cpu"
"""Where the function is defined, and where it is imported to by name."""


def keep_base_apart() -> None:
    """Make ``bgmv_shrink``, the first half of every adapter's product, zero for tokens without an adapter."""
    modules: list[Any] = [import_module(name) for name in _BUILD]
    original = modules[0].bgmv_shrink
    if not hasattr(original, "__wrapped__"):  # vLLM may load plugins more than once
        for module in modules:
            module.bgmv_shrink = _skipping(original)


def _skipping(shrink: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(shrink)
    def bgmv_shrink(inputs: Tensor, weights: Tensor, output: Tensor, indices: Tensor, *more: Any) -> None:
        """``output`` (tokens, rank) is overwritten; ``indices`` (tokens,), −1 where there is no adapter."""
        shrink(inputs, weights, output, indices, *more)
        output.masked_fill_((indices < 0)[:, None], 0.0)

    return bgmv_shrink
