"""The report: whole, self-contained, and honest about what was not measured."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from evaluation.calibration_tables import at_size
from evaluation.document import runs
from evaluation.goals import goals
from evaluation.records import CaseRecord, ResultFile, write_result
from evaluation.report import contents, in_document, read_runs, write_report
from evaluation.views import OPPOSITE
from services.errors import InputError
from tests.evaluation.made_results import made_result


@pytest.fixture(scope="module")
def found():
    return runs(
        [
            ("default", made_result(60)),
            ("off", made_result(60, seed=1, retrieval="off")),
            ("swapped", made_result(60, swap_labels=True)),
            ("text", made_result(60, seed=3, sharpness=0, mode="text")),
            ("leaky", leaky()),
            ("shuffled", made_result(60, seed=5, mode="rag", frames="shuffled")),
        ]
    )


def leaky() -> ResultFile:
    return made_result(60, seed=4, sharpness=3, mode="text")


@pytest.fixture(scope="module")
def sections(found):
    return contents(found, pictures=False)


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    target = tmp_path_factory.mktemp("report")
    write_report(found, target)
    return target


def test_html_needs_no_other_file_and_markdown_finds_its_pictures(folder):
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:)""", html)
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (folder / "report.md").read_text(encoding="utf-8"))
    assert {"confusion.png", "reliability.png", "coverage.png", "roc_pr.png"} <= set(pictures)
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_every_markdown_table_has_rows_as_wide_as_its_head(folder):
    lines = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    for head, rule in pairwise(lines):
        if rule.startswith("|---"):
            assert head.count("|") == rule.count("|"), head


def test_a_control_that_knows_too_much_is_named(sections):
    controls = next(section for section in sections if section.title.startswith("Controls"))
    assert any("leaky: tuned, model does not fall to chance" in remark for remark in controls.remarks)
    assert not any(remark.startswith("text:") for remark in controls.remarks)


def test_text_with_random_cases_is_a_control_of_its_own():
    made = runs([("found", leaky()), ("drawn", made_result(60, seed=3, sharpness=0, mode="text", context="random"))])
    section = next(s for s in contents(made, pictures=False) if s.title.startswith("Controls"))
    assert [(row[0], row[5]) for row in section.tables[0].rows if row[1].endswith("tuned, model")] == [
        ("text, references as found", "not met"),
        ("text, random cases", "met"),
    ]
    assert any("found by the video's own vector" in remark for remark in section.remarks)


def test_altered_frames_stand_beside_the_usual_ones_of_the_same_clips():
    altered = made_result(40, seed=5, mode="rag", frames="shuffled")
    few, many = made_result(10, sharpness=-9), made_result(60, sharpness=9)
    found = runs([("many", many), ("few", few), ("shuffled", altered)])
    section = next(s for s in contents(found, pictures=False) if s.title.startswith("Controls"))
    row = next(row for row in section.tables[1].rows if "tuned" in row[1])
    assert row[5].startswith("1.000 ") and row[5].endswith("n=40")


def test_goals_say_what_was_not_measured():
    table = goals(runs([("off", made_result(20, retrieval="off"))])).tables[0]
    assert {row[1] for row in table.rows} == {"not measured"}


@pytest.mark.parametrize(("same", "right", "precision"), [(3, "1.000", ".600"), (2, ".000", ".400")])
def test_the_retrieval_goal_counts_the_five_nearest_only(same, right, precision):
    made = made_result(20)
    # Nine voters: of the nearest five ``same`` have the clip's label, the other four all have it.
    clips = tuple(
        clip.model_copy(
            update={
                "voters": tuple(
                    CaseRecord(id=f"r{i}", label=clip.truth if i < same or i > 4 else OPPOSITE[clip.truth])
                    for i in range(9)
                )
            }
        )
        for clip in made.clips
    )
    settings = made.settings.model_copy(update={"profile": "demo"})
    table = goals(runs([("default", made.model_copy(update={"clips": clips, "settings": settings}))])).tables[0]
    row = next(row for row in table.rows if "5 nearest references" in row[0])
    assert row[2].startswith(right) and f"precision@5 {precision}" in row[2]
    assert row[1] == ("met" if same > 2 else "not met")


def test_too_few_clips_are_said_to_be_too_few(sections):
    verdict = next(row for row in sections[0].tables[0].rows if row[0].startswith("final verdict"))
    assert verdict[1].endswith("(on too few clips)")


def test_clip_names_cannot_become_markup(tmp_path):
    made = made_result(20)
    evil = made.clips[0].model_copy(update={"video": "<script>alert(1)</script>|x.mp4", "metadata": {"kind": "<b>"}})
    other = made_result(20, seed=9, retrieval="off")
    named = other.clips[0].model_copy(update={"video": evil.video})
    write_report(
        runs(
            [
                ("a", made.model_copy(update={"clips": (evil, *made.clips[1:])})),
                ("b", other.model_copy(update={"clips": (named, *other.clips[1:])})),
            ]
        ),
        tmp_path,
    )
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in html and "<b>" not in html


def test_same_names_take_their_folders_and_the_same_file_twice_is_refused(tmp_path):
    for name in ("one", "two"):
        write_result(tmp_path / name / "r.json", made_result(4))
    paths = [tmp_path / "one" / "r.json", tmp_path / "two" / "r.json"]
    assert [run.name for run in read_runs(paths)] == ["one/r", "two/r"]
    with pytest.raises(InputError, match="same name"):
        read_runs([paths[0], paths[0]])


def test_a_document_gets_tables_without_pictures_and_without_seconds(found):
    text = in_document(found)
    assert "#### Goals" in text and "#### The published results" in text
    assert "![" not in text and "Cost per clip" not in text
    assert not re.search(r"^#{1,3} ", text, re.MULTILINE)


def test_calibration_at_size_shows_every_bin_and_only_goals_that_it_measures():
    asked, *rest = at_size(runs([("default", made_result(200))]))
    assert "not measured" not in {cell for row in asked.tables[0].rows for cell in row}
    bins = next(section for section in rest if section.title == "Said and found probability").tables[0].rows
    assert [row[2] for row in bins] == ["20"] * 10
