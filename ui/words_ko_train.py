"""The Korean wording of the Train screen."""

from __future__ import annotations

WORDS: dict[str, str] = {
    "nav.train": "학습",
    "source.own": "내 영상 ({count})",
    "source.sample": "예제 영상 ({count})",
    "source.practice": "연습 영상 ({count})",
    "from.library": "참고 영상",
    "from.history": "지난 분석",
    "from.sample": "예제",
    "from.practice": "연습",
    "run_state.running": "학습 중",
    "run_state.stopping": "멈추는 중",
    "run_state.done": "끝남",
    "run_state.stopped": "멈춤",
    "run_state.failed": "실패",
    "run_state.killed": "중단됨",
    "train.title": "내 영상으로 학습하기",
    "train.help": (
        "분석 결과나 참고 영상에서 실제로 무엇이었는지 알려 주신 영상으로, 우리 축사에서 승가가 어떻게 보이는지 모델에 "
        "가르칩니다. 학습은 따로 진행되므로 이 화면이나 앱을 닫았다가 다시 와도 됩니다."
    ),
    "train.set": "배울 영상",
    "train.sources": "영상",
    "train.sources_help": (
        "연습 영상은 데모용으로 그린 것입니다. 학습이 어떻게 되는지 볼 수 있을 뿐, "
        "실제 소에 대해서는 배울 것이 없습니다."
    ),
    "train.counted": "영상 {count}개, 그중 {reasoned}개에 이유가 적혀 있습니다.",
    "train.verdict_only": "직접 적은 이유가 없는 영상에서는 판정만 배웁니다.",
    "train.more_clips": "그 밖에 {count}개.",
    "train.no_picture": "(사진 없음)",
    "train.draw": "연습 영상 {count}개 그리기",
    "train.drawing": "연습 영상을 그리는 중: {total}개 중 {done}개",
    "train.draw_broken": "{total}개 중 {done}개를 그린 뒤 끝났습니다: {message}",
    "train.new": "새 학습",
    "train.name": "새 어댑터의 이름",
    "train.name_help": "영문자, 숫자, 줄표, 밑줄만 쓸 수 있습니다. 나중에 이 이름으로 고릅니다.",
    "train.name_taken": "{name}(이)라는 어댑터가 이미 있습니다. 다른 이름을 쓰세요.",
    "train.begin": "시작점",
    "train.begin_new": "새 어댑터",
    "train.begin_help": (
        "새 어댑터는 내 영상만 알기 때문에 영상이 많이 필요합니다. 이미 있는 어댑터에서 이어 가면 배운 것에서 "
        "시작하므로 영상이 적어도 됩니다. 원래 어댑터는 바뀌지 않습니다."
    ),
    "train.began_with": "{name}에서 이어 감",
    "train.begun_from": "시작점이 된 {name}",
    "train.epochs": "전체 영상을 되풀이하는 횟수",
    "train.epochs_help": "따로 떼어 둔 영상의 결과가 더 나아지지 않으면 먼저 멈춥니다.",
    "train.more": "자세한 설정",
    "train.batch": "한 단계에 쓰는 영상 수",
    "train.rate": "학습률",
    "train.rate_help": "한 단계에 얼마나 바꿀지 정합니다. 데모 모델은 0.002, 실제 모델은 0.0002가 알맞습니다.",
    "train.held_out": "떼어 두는 영상의 비율",
    "train.held_out_help": "이 영상은 학습에 쓰지 않고 결과를 재는 데만 씁니다.",
    "train.context": "참고 영상과 견주는 연습도 하기",
    "train.context_help": (
        "비교를 켠 분석과 같습니다. 떼어 둔 것 말고도 이유가 적힌 영상이 종류마다 두 개 있어야 합니다."
    ),
    "train.no_context": "이유가 적힌 영상이 적어 참고 영상 없이 학습합니다.",
    "train.start": "학습 시작",
    "train.preparing_set": "영상을 모으는 중 …",
    "train.busy": "분석이 진행 중이라 그래픽 카드에 자리가 없습니다. 분석이 끝난 뒤 다시 해 주세요.",
    "train.one_runs": "학습이 진행 중입니다. 끝난 뒤 새로 시작할 수 있습니다.",
    "train.runs": "학습 목록",
    "train.run": "{name} · 상태: {state}",
    "train.run_facts": "승가 {mounting}개, 정상 {normal}개 · 프로필 {profile} · 시작 {when} (협정 세계시)",
    "train.preparing": "모델을 불러오고 영상을 살펴보는 중 …",
    "train.steps": "{total}단계 중 {step}단계",
    "train.left": "{left} 남음",
    "train.speed": "초당 영상 수",
    "train.loss": "손실",
    "train.held_loss": "떼어 둔 영상 손실",
    "train.held_right": "균형 정확도",
    "train.held_right_help": "학습에서 떼어 둔 영상 {count}개에서 잰 값입니다.",
    "train.series": "영상",
    "train.series_loss": "학습 영상",
    "train.series_held": "떼어 둔 영상",
    "train.axis_step": "단계",
    "train.curve": "단계마다 학습 영상의 손실과, 한 바퀴마다 떼어 둔 영상의 손실입니다. 낮을수록 좋습니다.",
    "train.stop": "저장하고 멈추기",
    "train.stop_now": "바로 멈추기",
    "train.stopping": "이번 단계까지 저장하고 멈춥니다.",
    "train.resume": "이어서 하기",
    "train.delete": "삭제",
    "train.delete_sure": "이 학습을 영상과 저장 지점까지 삭제할까요? 쓰고 있는 어댑터는 남습니다.",
    "train.delete_yes": "예, 삭제합니다",
    "train.killed": "알 수 없는 이유로 중단되었습니다. 마지막 저장 지점에서 이어집니다.",
    "train.stopped": "{total}단계 중 {step}단계까지 저장하고 멈췄습니다.",
    "train.stopped_early": "첫 단계 전에 멈췄습니다. 이어서 하면 처음부터 시작합니다.",
    "train.figures": "떼어 둔 영상 {held_out}개의 결과",
    "train.figure": "수치",
    "train.base": "기본",
    "train.tuned": "새 어댑터",
    "train.figure_off": "균형 정확도, 영상만 볼 때",
    "train.figure_contrastive": "균형 정확도, 참고 영상과 견줄 때",
    "train.figure_loss": "손실",
    "train.figures_help": (
        "균형 정확도는 승가 영상과 정상 영상에서 모델 자체 점수가 맞은 비율의 평균이며, 절반이면 찍은 것과 같습니다. "
        "영상이 적어 대략의 값일 뿐입니다."
    ),
    "train.no_better": (
        "떼어 둔 영상을 기본 모델보다 더 많이 맞히지 못합니다. 더 오래, 또는 더 많은 영상으로 학습하세요."
    ),
    "train.no_better_start": (
        "떼어 둔 영상을 시작점이 된 어댑터보다 더 많이 맞히지 못합니다. 더 오래, 또는 더 많은 영상으로 학습하거나 원래 "
        "어댑터를 쓰세요."
    ),
    "train.use": "사용하기",
    "train.using": "기본 모델에서 어댑터를 시험하는 중 …",
    "train.in_use": "{name}(으)로 쓰고 있습니다. 분석 화면의 “분석 방법”이나 비교 화면에서 고르세요.",
    "train.to_analyze": "이것으로 분석하기",
    "train.to_compare": "기본과 비교하기",
    "train.show": "보기",
}
