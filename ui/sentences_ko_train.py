"""Sentences about trainings, adapters and comparisons, with their Korean wording; see ``sentences_ko.py``."""

from __future__ import annotations

SENTENCES: tuple[tuple[str, str], ...] = (
    (
        r"No clips are chosen yet\. Choose others above, draw practice clips, say under an analysis what its clip "
        r"shows, or add clips to the library\.",
        "아직 고른 영상이 없습니다. 위에서 다른 영상을 고르거나, 연습 영상을 그리거나, 분석 결과 아래에서 영상이 "
        "무엇을 보여 주는지 알려 주거나, 참고 영상에 추가하세요.",
    ),
    (
        r"All (\d+) clips show (mounting|normal); training needs clips of both kinds, so add (mounting|normal) ones\.",
        "영상 {0}개가 모두 {1}입니다. 두 종류가 다 있어야 하니 {2} 영상을 추가하세요.",
    ),
    (
        r"There are (\d+) mounting and (\d+) normal clips; training needs at least (\d+) of each\.",
        "승가 {0}개, 정상 {1}개입니다. 학습하려면 종류마다 적어도 {2}개가 필요합니다.",
    ),
    (
        r"'(.*)' cannot be a name; use up to 64 letters, digits, dashes and underscores\.",
        "“{0}”은(는) 이름으로 쓸 수 없습니다. 영문자, 숫자, 줄표, 밑줄로 64자까지 쓰세요.",
    ),
    (
        r"There is a training run '(.+)' already; choose another name or delete it\.",
        "“{0}” 학습이 이미 있습니다. 다른 이름을 쓰거나 그 학습을 삭제하세요.",
    ),
    (
        r"The training '(.+)' is running; only one can run at a time\.",
        "“{0}” 학습이 진행 중입니다. 한 번에 하나만 할 수 있습니다.",
    ),
    (r"The training '(.+)' is running; stop it first\.", "“{0}” 학습이 진행 중입니다. 먼저 멈추세요."),
    (r"There is no training run '(.+)'; it may have been deleted\.", "“{0}” 학습이 없습니다. 삭제되었을 수 있습니다."),
    (r"Clips are being drawn already; let that end first\.", "이미 영상을 그리고 있습니다. 끝난 뒤에 해 주세요."),
    (r"The drawing was broken off\.", "그리기가 중단되었습니다."),
    (
        r"The loss became (.+) at step (\d+); lower the learning rate and start again\.",
        "{1}단계에서 손실이 {0}이(가) 되었습니다. 학습률을 낮추어 다시 시작하세요.",
    ),
    (
        r"The adapter '(.+)' is a no-op: it changes nothing in the model's answers\.",
        "어댑터 {0}은(는) 모델의 답을 조금도 바꾸지 않습니다.",
    ),
    (
        r"There is another adapter '(.+)' already; remove it or choose a name\.",
        "어댑터 {0}이(가) 이미 있습니다. 그것을 지우거나 다른 이름을 쓰세요.",
    ),
    (
        r"The adapter '(.+)' was trained on (.+) \(architecture .+\), but this profile runs (.+) \(architecture .+\); "
        r"choose another adapter or profile\.",
        "어댑터 {0}은(는) {1}에서 배운 것인데 이 프로필의 모델은 {2}입니다. 다른 어댑터나 프로필을 고르세요.",
    ),
    (
        r"The adapter '(.+)' was trained on (.+) \(weights .+\), but this profile runs (.+) \(weights .+\); choose .*",
        "어댑터 {0}은(는) {1}의 다른 가중치에서 배운 것이라 이 프로필의 {2}에 쓸 수 없습니다. 다른 어댑터를 고르세요.",
    ),
    (
        r"The adapter '(.+)' was trained with preprocessing .*",
        "어댑터 {0}은(는) 다른 전처리로 배운 것입니다. 이 프로필로 다시 학습하거나 다른 것을 고르세요.",
    ),
    (
        r"There is no adapter '(.+)'; known are: (.+)\. Add one with .*",
        "어댑터 {0}이(가) 없습니다. 있는 것: {1}.",
    ),
    (r"There is nothing to compare yet; choose some clips\.", "비교할 영상이 없습니다. 영상을 고르세요."),
    (
        r"(\d+) clips are too many for one comparison; choose at most (\d+)\.",
        "영상 {0}개는 한 번에 비교하기에 너무 많습니다. {1}개까지 고르세요.",
    ),
    (
        r"(\d+) comparisons are running already; let one finish or cancel one\.",
        "이미 {0}건의 비교가 진행 중입니다. 하나가 끝나거나 취소된 뒤에 해 주세요.",
    ),
    (
        r"There is no comparison '(.+)'; it may have been deleted\.",
        "{0} 비교가 없습니다. 삭제되었을 수 있습니다.",
    ),
    (r"This comparison is running already\.", "이 비교는 이미 진행 중입니다."),
    (
        r"The adapter or the profile has changed since this comparison began; start a new one\.",
        "이 비교를 시작한 뒤 어댑터나 프로필이 바뀌었습니다. 새로 비교하세요.",
    ),
)
