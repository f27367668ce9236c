"""The Compare screen, driven as a farmer would, on the real demo models."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.events import Finished
from agent.graph import analyze
from services.annotations import entry_for
from services.comparisons import COLUMNS, Compared, Comparison, Judged, new_id, now
from services.errors import InputError
from services.schema import Request
from tests.media import make_clip, pattern
from tests.ui.conftest import PATIENCE_S, address, shown
from ui.compare_counts import rows, tally
from ui.desk import Desk


class NeverCancelled:
    def is_set(self) -> bool:
        return False


def opened(tab: Any, comparison: str | None = None) -> Any:
    at = tab().switch_page("ui/compare.py")
    if comparison is not None:
        at.query_params["comparison"] = comparison
    return at.run()


def added(at: Any, samples: Sequence[Any]) -> Any:
    """Choose ``samples`` in the tab of the shipped ones."""
    at.button_group("compare_samples").set_value([str(sample.path) for sample in samples])
    return next(button for button in at.button if button.form_id == "compare_samples_form").click().run()


def started(tab: Any, samples: Sequence[Any]) -> tuple[Any, str]:
    """A page on which a comparison of ``samples`` was begun, and its id."""
    at = added(opened(tab), samples).button("compare_start").click().run()
    id = address(at, "comparison")
    assert id is not None and not at.exception and not at.error
    return at, id


def ended(desk: Desk, service: Any, id: str) -> Comparison:
    """The comparison once it does not run any more."""
    deadline = time.monotonic() + PATIENCE_S
    while desk.comparisons.state(service.comparisons.get(id)) == "running":
        assert time.monotonic() < deadline, "the comparison did not end"
        time.sleep(0.1)
    return service.comparisons.get(id)


def table(at: Any) -> Any:
    """The table of the comparison (the list of chosen clips is another one)."""
    return next(frame.value for frame in at.dataframe if "tuned" in frame.value.columns)


def test_samples_are_compared_counted_and_filed(tab: Any, desk: Desk, service: Any, samples: list[Any]) -> None:
    chosen = [samples[0], samples[2]]
    before = service.history.count()
    at, id = started(tab, chosen)
    found = ended(desk, service, id)
    at.run()
    assert not at.exception and not at.error
    assert [item.name for item in found.items] == list(table(at)["clip"])
    assert service.history.count() == before + 2
    for item, sample in zip(found.items, chosen, strict=True):
        report = service.history.get(item.report_id).report
        base, tuned = report["variants"]
        assert (item.columns["base"].verdict, item.columns["base"].p_alone) == (base["verdict"], base["p_mounting"])
        assert (item.columns["tuned"].verdict, item.columns["tuned"].p) == (tuned["verdict"], report["p_mounting"])
        request = Request(str(sample.path), ("tuned",), "off")
        last = [event for event in analyze(request, service, NeverCancelled())][-1]
        assert isinstance(last, Finished)
        assert item.columns["alone"].p == pytest.approx(last.report.p_mounting, abs=1e-6)
    counted = tally(rows(found, service.known_labels()), "tuned")
    assert counted.known == 2
    text = shown(at)
    assert f"{counted.right} of 2 right" in [metric.value for metric in at.metric]
    assert "of 2** clips" in text and "Now:" not in text
    assert [button.label for button in at.download_button] == ["Table (CSV)"]


def test_verdicts_by_a_rule_and_by_none_are_not_compared_silently(
    tab: Any, desk: Desk, service: Any, samples: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, id = started(tab, samples[:1])
    ended(desk, service, id)
    warning = "For the adapter mounting there is none: its score alone decides."
    assert warning not in shown(opened(tab, id)), "the shipped adapter has a rule of its own"
    monkeypatch.setattr(service, "is_calibrated", lambda adapter: False)
    assert warning in shown(opened(tab, id))


def test_a_refresh_finds_the_comparison_that_goes_on(tab: Any, desk: Desk, service: Any, samples: list[Any]) -> None:
    """The tab that began it is gone; another one with its address sees it run and end."""
    _, id = started(tab, samples[:2])
    other = opened(tab, id)
    assert not other.exception and not other.error
    assert "Now:" in shown(other) and other.button("compare_cancel")
    assert ended(desk, service, id).state == "finished"
    assert len(table(opened(tab, id))) == 2
    assert opened(tab).button(f"compare_show_{id}"), "it stands among the earlier ones"


def test_a_cancelled_comparison_keeps_what_it_has_and_goes_on(
    tab: Any, desk: Desk, service: Any, samples: list[Any]
) -> None:
    _, id = started(tab, samples[:3])
    desk.comparisons.cancel(id)
    stopped = ended(desk, service, id)
    assert stopped.state == "cancelled" and stopped.done < 3
    at = opened(tab, id)
    assert f"Cancelled after {stopped.done} of 3" in shown(at)
    at.button("compare_resume").click().run()
    with pytest.raises(InputError, match="running already"):
        desk.comparisons.resume(id)
    whole = ended(desk, service, id)
    assert whole.state == "finished" and whole.done == 3
    assert whole.items[: stopped.done] == stopped.items[: stopped.done]


def test_one_whose_process_was_killed_is_told_and_goes_on(
    tab: Any, desk: Desk, service: Any, samples: list[Any]
) -> None:
    digest = service.adapters.get("mounting").digest
    items = (Compared(str(samples[1].path), "one"),)
    gone = {"pid": 2**22, "started": 1.0}
    lost = Comparison(new_id(), now(), "demo", "mounting", digest, "contrastive", items, owner=gone)
    service.comparisons.save(lost)
    at = opened(tab, lost.id)
    assert "broken off after 0 of 1" in shown(at)
    at.button("compare_resume").click().run()
    assert ended(desk, service, lost.id).state == "finished"


def test_one_begun_with_another_adapter_is_not_mixed_with_this_one(tab: Any, service: Any, samples: list[Any]) -> None:
    items = (Compared(str(samples[1].path), "one"),)
    old = Comparison(new_id(), now(), "demo", "mounting", "0" * 64, "contrastive", items, state="cancelled")
    service.comparisons.save(old)
    at = opened(tab, old.id).button("compare_resume").click().run()
    assert [error.value for error in at.error] == [
        "The adapter or the profile has changed since this comparison began; start a new one."
    ]


def test_a_bad_upload_costs_its_own_line_only(
    tab: Any, desk: Desk, service: Any, data: Path, samples: list[Any]
) -> None:
    at = opened(tab)
    bad_file = ("notes.mp4", b"this is a text file\n" * 20, "video/mp4")
    at.file_uploader[0].set_value([bad_file, ("barn.mp4", samples[3].path.read_bytes(), "video/mp4")])
    at.run()
    assert not at.exception and not at.error
    at.button("compare_start").click().run()
    found = ended(desk, service, address(at, "comparison") or "")
    bad, good = found.items
    assert bad.error and "text file" in bad.error and bad.report_id is None
    assert good.columns["tuned"].verdict and service.history.get(good.report_id).clip_name == "barn.mp4"
    at.run()
    assert any("notes.mp4" in one.value and "text file" in one.value for one in at.warning)
    kept = [path.name for path in (data / "history" / "uploads").rglob("*.mp4")]
    assert "notes.mp4" not in kept


def test_no_probability_stands_beside_a_verdict_that_none_outweighs(
    tab: Any, desk: Desk, service: Any, tmp_path: Path
) -> None:
    """Noise is nothing that the models were trained on: unclear, however sure a model is of it."""
    clip = make_clip(tmp_path / "noise.mp4", 60, width=448, height=256, fps=10, paint=pattern("noise"))
    at = opened(tab)
    at.file_uploader[0].set_value([("noise.mp4", clip.read_bytes(), "video/mp4")])
    at.run().button("compare_start").click().run()
    (item,) = ended(desk, service, address(at, "comparison") or "").items
    assert [(item.columns[name].verdict, item.columns[name].p) for name in COLUMNS] == [("unclear", None)] * 3
    assert all(item.columns[name].p_alone is not None for name in COLUMNS)
    assert not any("%" in cell for name in COLUMNS for cell in table(at.run())[str(name)])


def test_an_annotation_file_says_the_truth(tab: Any, desk: Desk, service: Any, samples: list[Any]) -> None:
    """Its label counts, also where the samples' own annotation says otherwise."""
    folder = Path(service.settings.media) / "annotated"
    folder.mkdir()
    shutil.copy(samples[0].path, folder / "a.mp4")
    entry = entry_for("a.mp4", "normal", "As the farmer says.")
    (folder / "annotations.json").write_text(json.dumps([entry]))
    at = opened(tab)
    at.selectbox("compare_annotations").set_value("annotated/annotations.json")
    at = next(button for button in at.button if button.form_id == "compare_annotations_form").click().run()
    assert "1 clips chosen; of 1 it is known what they show." in shown(at)
    at.button("compare_start").click().run()
    found = ended(desk, service, address(at, "comparison") or "")
    assert [row.truth for row in rows(found, service.known_labels())] == ["normal"]
    assert list(table(at.run())["truth"]) == ["Normal"]


def test_korean(tab: Any, service: Any) -> None:
    columns = {"base": Judged("normal", 0.1, 0.2), "tuned": Judged("mounting", 0.9, 0.8), "alone": Judged(error="No.")}
    items = (Compared("/barn/a.mp4", "a.mp4", "mounting", None, columns),)  # type: ignore[arg-type]
    told = Comparison(new_id(), now(), "demo", "mounting", None, "contrastive", items, state="finished")
    service.comparisons.save(told)
    at = tab(lang="ko").switch_page("ui/compare.py")
    at.query_params["comparison"] = told.id
    at.run()
    assert not at.exception and at.title[0].value == "기본 모델과 조정 모델 비교"
    assert "**1개 중 0개** 영상에서 같습니다. 1개는 다릅니다: 정상 → 승가: 1개." in shown(at)
    assert list(table(at)["tuned"]) == ["▲ 승가 · 90 % ✓"] and list(table(at)["base"]) == ["● 정상 · 10 % ✗"]
