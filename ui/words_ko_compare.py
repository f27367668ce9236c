"""The Korean wording of the Compare screen."""

from __future__ import annotations

WORDS: dict[str, str] = {
    "nav.compare": "비교",
    "column.base": "기본",
    "column.tuned": "조정",
    "column.alone": "조정, 참고 영상 없음",
    "compare_state.running": "진행 중",
    "compare_state.finished": "끝남",
    "compare_state.cancelled": "취소됨",
    "compare_state.broken": "중단됨",
    "compare.title": "기본 모델과 조정 모델 비교",
    "compare.help": (
        "여러 영상을 한꺼번에 기본 모델, 조정 모델, 참고 영상 없이 판단하는 조정 모델로 살펴봅니다. "
        "뒤에서 진행되므로 이 화면을 닫았다가 다시 와도 됩니다."
    ),
    "compare.choose": "비교할 영상",
    "compare.tab_upload": "올리기",
    "compare.tab_samples": "예제",
    "compare.tab_annotations": "주석 파일",
    "compare.tab_history": "지난 분석",
    "compare.upload": "영상 파일",
    "compare.upload_help": "MP4, MOV, AVI, MKV, WebM, GIF, MPEG. 여러 개를 한꺼번에 올릴 수 있습니다.",
    "compare.samples": "정답을 아는 예제 영상",
    "compare.annotations": "영상 폴더의 JSON 파일",
    "compare.annotations_help": "이 파일의 분류를 정답으로 삼습니다.",
    "compare.no_media": "분류한 영상이 든 폴더를 HERDLENS_MEDIA에 지정하세요.",
    "compare.no_annotations": "{folder}에 JSON 파일이 없습니다.",
    "compare.no_clips": "{file}에 영상이 없습니다.",
    "compare.history": "전에 분석한 영상",
    "compare.history_help": "분석 결과에 알려 주신 내용을 정답으로 삼습니다.",
    "compare.no_history": "영상이 남아 있는 지난 분석이 없습니다.",
    "compare.choose_some": "하나 이상 고르세요",
    "compare.add": "추가",
    "compare.added": "영상 {count}개를 추가했습니다.",
    "compare.chosen": "영상 {count}개를 골랐고, 그중 {known}개의 정답을 압니다.",
    "compare.clip": "영상",
    "compare.truth": "실제",
    "compare.remove": "빼기",
    "compare.empty": "목록 비우기",
    "compare.start": "영상 {count}개 비교하기",
    "compare.heading": "영상 {count}개, {when} (협정 세계시)",
    "compare.used": "조정 어댑터: {adapter}. 기본과 조정에 보여 준 참고 영상: {retrieval}. 프로필 {profile}.",
    "compare.progress": "영상 {total}개 중 {done}개 완료",
    "compare.now": "지금: {name}",
    "compare.cancel": "취소",
    "compare.stopping": "멈추는 중 …",
    "compare.broken": "영상 {total}개 중 {done}개를 마친 뒤 HerdLens가 꺼져 중단되었습니다.",
    "compare.cancelled": "영상 {total}개 중 {done}개를 마친 뒤 취소했습니다. 살펴본 결과는 남아 있습니다.",
    "compare.resume": "이어서 하기",
    "compare.agree": "기본과 조정의 판정이 **{both}개 중 {agree}개** 영상에서 같습니다.",
    "compare.differ": "{count}개는 다릅니다: {flips}.",
    "compare.flip": "{before} → {after}: {count}개",
    "compare.mended": "정답을 아는 영상 가운데 {mended}개가 맞게, {spoilt}개가 틀리게 바뀌었습니다.",
    "compare.right": "{known}개 중 {right}개 맞음",
    "compare.tally": "틀림 {wrong}개, 불분명 {unclear}개",
    "compare.own": "모델 자체 점수만으로는 {own}개 중 {own_right}개가 맞습니다.",
    "compare.no_truth": (
        "정답을 알아야 맞고 틀림을 셀 수 있습니다. 주석 파일을 쓰거나 분석 결과 아래에서 실제로 무엇이었는지 "
        "알려 주세요."
    ),
    "compare.vote_alone": (
        "이 프로필에서는 기본 모델의 자체 점수를 쓰지 않습니다. 여기 기본 판정은 비슷한 참고 영상의 투표만으로 "
        "나온 것입니다."
    ),
    "compare.other_rules": (
        "기본 모델은 보정된 규칙으로 판정하므로 확실하지 않으면 판정을 미룹니다. "
        "어댑터 {adapter}에는 그런 규칙이 없어 점수만으로 판정합니다. 각자의 점수만으로 맞힌 수를 비교하세요."
    ),
    "compare.cells": "각 칸: 판정, 승가일 확률, 정답을 알면 ✓ 또는 ✗.",
    "compare.changed": "달라짐",
    "compare.open": "보고서",
    "compare.open_one": "열기",
    "compare.failed": "판정이 없거나 일부만 있는 영상:",
    "compare.more_failed": "그리고 {count}개 더",
    "compare.csv": "표 내려받기 (CSV)",
    "compare.delete": "삭제",
    "compare.delete_sure": "이 비교를 삭제할까요? 분석 기록은 남습니다.",
    "compare.delete_yes": "예, 삭제합니다",
    "compare.earlier": "지난 비교",
    "compare.row": "{when} (협정 세계시) · 영상 {total}개 중 {done}개 · {state}",
    "compare.show": "보기",
}
