"""``python -m evaluation retrieval …``: what retrieval finds, by model, by way of embedding, and at size."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from evaluation.quiet import quiet_settings

if TYPE_CHECKING:
    from services.model_service import ModelService


class MeasureByDefault(TyperGroup):
    """Options without a command are those of ``measure``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = ["measure", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    help="Measure what retrieval finds. Without a command: measure.",
    cls=MeasureByDefault, no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip


class PoolingOption(StrEnum):
    last = "last"
    mean = "mean"


class DeviceOption(StrEnum):
    cpu = "cpu"
    cuda = "cuda"


class DtypeOption(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"


FORMS = "text+image,image,text"


@app.command()
def measure(
    data: Annotated[Path, typer.Option(help="Graded records and queries, or annotations of labelled clips.")],
    out: Annotated[Path, typer.Option(help="Folder for the store and retrieval.json; a killed run goes on there.")],
    embedder: Annotated[str, typer.Option(help="Folder or id of a Qwen3-VL-Embedding model.")] = "assets/demo/base",
    reranker: Annotated[str | None, typer.Option(help="Folder or id of a Qwen3-VL-Reranker model.")] = None,
    pooling: Annotated[PoolingOption, typer.Option(help="last: official; mean: over the mask.")] = PoolingOption.last,
    dimension: Annotated[int | None, typer.Option(help="Keep only the first numbers of each vector.")] = None,
    records: Annotated[str, typer.Option(help="Parts of a record that are embedded.")] = "text+image",
    queries: Annotated[str, typer.Option(help="Forms of the queries, by commas.")] = FORMS,
    grade: Annotated[int, typer.Option(min=1, max=4, help="Records from this grade on are relevant.")] = 3,
    top: Annotated[int, typer.Option(min=2, help="How many records the reranker orders anew.")] = 10,
    instruction: Annotated[str | None, typer.Option(help="The queries' instruction; default the model's own.")] = None,
    frames: Annotated[int, typer.Option(min=2, max=64, help="Frames of a video.")] = 16,
    device: Annotated[DeviceOption, typer.Option(help="Where the models run.")] = DeviceOption.cpu,
    dtype: Annotated[DtypeOption, typer.Option(help="Numbers that they compute in.")] = DtypeOption.float32,
    pixels: Annotated[
        int | None, typer.Option(min=4096, help="Most pixels of a picture; default the official limits.")
    ] = None,
) -> None:
    """hit@k, recall@k, MRR and nDCG@k of a Qwen3-VL embedding model, with and without a reranker."""
    quiet_settings()
    from evaluation.graded import read_graded

    parts, forms = _parts(records), [_parts(form) for form in queries.split(",")]
    graded = read_graded(data)
    from evaluation.retrieval import measured
    from evaluation.retrieval_lines import lines
    from services.multimodal import Limits
    from services.qwen_embedder import INSTRUCTION, QwenEmbedder
    from services.qwen_reranker import QwenReranker
    from services.schema import Sampling

    _require_device(device)
    limits = None if pixels is None else Limits(pixels // 2, pixels, pixels // 2, pixels)
    place: dict[str, Any] = {"device": device.value, "dtype": dtype.value, "limits": limits}
    folder, judges = _folder(embedder), _folder(reranker) if reranker else None
    model = QwenEmbedder(folder, pooling=pooling.value, dimension=dimension, name=embedder, **place)
    judge = QwenReranker(judges, **place) if judges else None
    found = measured(
        graded, forms, parts, model, out, threshold=grade, instruction=instruction or INSTRUCTION,
        document_instruction=INSTRUCTION, sampling=Sampling(frames=frames), reranker=judge, top=top,
    )  # fmt: skip
    for line in lines(found, grade, top):
        print(line)
    print(f"Written: {out / 'retrieval.json'}")


@app.command()
def clips(
    out: Annotated[Path, typer.Option(help="Folder for clips, vectors and retrieval.md.")] = Path("build/eval"),
    data: Annotated[Path | None, typer.Option(help="Annotations of labelled clips; default: held-out ones.")] = None,
    limit: Annotated[int | None, typer.Option(min=12, help="Only the first clips; default 400 held-out ones.")] = None,
    write: Annotated[Path | None, typer.Option(help="Also put the tables between the marks of this document.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile; default HERDLENS_PROFILE or demo.")] = None,
) -> None:
    """Compare ways of embedding labelled clips: whole frames, what moves, windows, the VLM's tower, text, fusions."""
    settings = quiet_settings()
    from evaluation.clip_retrieval import as_served, require_enough, worths
    from evaluation.clip_tables import PART, lines
    from evaluation.clip_vectors import clip_vectors
    from evaluation.data import read_data
    from evaluation.held_out import CLIPS, rendered, require_count
    from evaluation.marked_text import require_marks, write_between
    from evaluation.records import write_text
    from services.model_service import ModelService
    from services.settings import Settings
    from services.settings import profile as named

    chosen = named(profile or settings.profile)
    if write is not None:
        require_marks(write, PART)
    if data is None:
        require_count(limit or CLIPS, "--limit")
    items, _ = read_data(data or rendered(limit or CLIPS, out))
    items = items[:limit]
    require_enough(items)
    with TemporaryDirectory() as own:  # the user's own references stay out
        service = ModelService(Settings(data=Path(own)), chosen)
        try:
            found = clip_vectors(service, items, out)
            references = service.library.list() if chosen.library else []
            marks = _marks(service)
        finally:
            service.close()
    library = as_served(
        found, items, {r.id: r.label for r in references}, {r.id: str(r.metadata.get("light")) for r in references}
    )
    text = "\n".join(lines(worths(found, items), found.served, library, items, marks))
    write_text(out / "retrieval.md", text + "\n")
    if write is not None:
        write_between(write, PART, text)
    print(text)
    print(f"Written: {out / 'retrieval.md'}")


@app.command()
def bench(
    out: Annotated[Path, typer.Option(help="Folder for the stores (about 5 GB for a while).")] = Path("build/store"),
    records: Annotated[int, typer.Option(min=1000, help="Records; the fourth source has 176,443.")] = 176_443,
    dimension: Annotated[int, typer.Option(min=8, help="Numbers of a vector.")] = 2048,
    write: Annotated[Path | None, typer.Option(help="Also put the tables between the marks of this document.")] = None,
) -> None:
    """Build, save, reopen and search a large store; ratios to NumPy, FAISS-flat and LanceDB on this machine."""
    quiet_settings()
    from evaluation.bench_store import PART, lines, measure_stores
    from evaluation.marked_text import require_marks, write_between

    if write is not None:
        require_marks(write, PART)
    text = "\n".join(lines(measure_stores(out, records, dimension)))
    if write is not None:
        write_between(write, PART, text)
    print(text)
    print(f"Written: {out / 'bench.json'}")


@app.command()
def published(
    write: Annotated[Path | None, typer.Option(help="Also put the table between the marks of this document.")] = None,
) -> None:
    """What the fourth source's published figures can mean: hit rates, or recall over several records."""
    from evaluation.marked_text import write_between
    from evaluation.source_retrieval import PART, lines

    text = "\n".join(lines())
    if write is not None:
        write_between(write, PART, text)
    print(text)


def _parts(text: str) -> list[str]:
    from evaluation.graded import PARTS
    from services.errors import InputError

    found = [part.strip() for part in text.split("+")]
    if not found or set(found) - set(PARTS) or len(set(found)) < len(found):
        raise InputError(f"{text!r} is not made of text, image and video joined by +; write text+image, for instance.")
    return [part for part in PARTS if part in found]


def _folder(name: str) -> Path:
    """Where the model's files lie; no profile names it, so the remedy is another than ``model_folder``'s."""
    from services.errors import ModelError
    from services.model_files import model_folder
    from services.settings import located

    try:
        return model_folder(name)
    except ModelError as error:
        if located(name) is not None:
            raise
        raise ModelError(
            f"The model {name} is not on this machine; get it with '.venv/bin/hf download {name}', or give its folder."
        ) from error


def _require_device(device: DeviceOption) -> None:
    import torch

    from services.errors import InputError

    if device is DeviceOption.cuda and not torch.cuda.is_available():
        raise InputError("There is no CUDA device on this machine; leave --device at cpu.")


def _marks(service: ModelService) -> str:
    base, embedder = service.identity.weights, service.embedder.provenance.weights
    return f"Profile {service.profile.name}: embedder {embedder[:12]}, base {base[:12]}."
