"""Option scoring on a server: the log-probability of each complete continuation, from one token's answer at a time.

vLLM gives, for the token that it would write next, the log-probabilities of any tokens that are named. The options
share beginnings, so they are read as a tree: for every beginning one request that continues the assistant's turn up to
there and asks for the tokens that may follow. All requests run at once; the server reuses what they have in common.
Log-probabilities of the prompt itself would need one request an option, but vLLM then computes the logits of every
place and reads nothing from its prefix cache.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from openai.types.chat import ChatCompletion

from services.chat.server_client import together
from services.chat.server_failures import RequestRefused
from services.errors import ModelError

Tokens = tuple[int, ...]
Ask = Callable[[str, dict[str, Any]], Awaitable[ChatCompletion]]
"""Continue the assistant's turn from a text, with further request settings."""


def beginnings(options: Sequence[Tokens]) -> dict[Tokens, list[int]]:
    """Every beginning of an option to the tokens that follow it in one.

    >>> beginnings([(1, 9), (2, 3, 9)])
    {(): [1, 2], (1,): [9], (2,): [3], (2, 3): [9]}
    """
    tree: dict[Tokens, list[int]] = {}
    for option in options:
        for place, token in enumerate(option):
            following = tree.setdefault(option[:place], [])
            if token not in following:
                following.append(token)
    return tree


async def score(ask: Ask, prefix: str, options: Sequence[Tokens], decode: Callable[[Tokens], str]) -> tuple[float, ...]:
    """Summed log-probability of each option (tokens, terminator included) behind ``prefix``. Raises ModelError where
    the server gives none."""
    tree = beginnings(options)
    answers = await together(
        *(_following(ask, prefix + decode(beginning), beginning, tokens) for beginning, tokens in tree.items())
    )
    read: dict[Tokens, dict[int, float]] = dict(zip(tree, answers, strict=True))
    return tuple(sum(read[option[:place]][token] for place, token in enumerate(option)) for option in options)


async def _following(ask: Ask, text: str, beginning: Tokens, tokens: Sequence[int]) -> dict[int, float]:
    answer = await ask(
        text,
        {
            "max_tokens": 1,
            "logprobs": True,
            "extra_body": {
                "logprob_token_ids": list(tokens),
                "return_tokens_as_token_ids": True,
                "return_token_ids": True,
            },
        },
    )
    prompt = getattr(answer, "prompt_token_ids", None)
    if beginning and (prompt is None or tuple(prompt[-len(beginning) :]) != beginning):
        raise ModelError(f"The model server splits {text[-40:]!r} into other tokens than this program does.")
    return logprobs(answer, tokens)


def logprobs(answer: ChatCompletion, tokens: Sequence[int]) -> dict[int, float]:
    """Log-probability of each of ``tokens`` as the answer's first one; RequestRefused where the server told none."""
    given = answer.choices[0].logprobs
    first = (given.content[0].top_logprobs if given and given.content else None) or []  # null from some servers
    named = {entry.token: entry.logprob for entry in first}
    read = {token: named[name] for token in tokens if (name := f"token_id:{token}") in named}
    if missing := [token for token in tokens if token not in read]:
        reason = f"no log-probability of the tokens {missing}"
        raise RequestRefused(f"The model server gives {reason}.", reason)
    return read
