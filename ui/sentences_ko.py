"""Sentences that the agent and the services write, with their Korean wording: (pattern, text).

A pattern must match the whole sentence; its groups fill ``{0}``, ``{1}``, …. What is not listed stays English, and so
does every text that a model wrote.
"""

from __future__ import annotations

from ui.sentences_ko_server import SENTENCES as SERVER
from ui.sentences_ko_train import SENTENCES as TRAIN

_ACCEPTED = "an MP4, MOV, AVI, MKV, WebM, GIF or MPEG video"

TERMS = {
    "base": "기본",
    "tuned": "조정",
    "mounting": "승가",
    "normal": "정상",
    "clean": "깨끗함",
    "blur": "흐림",
    "noise": "잡음",
    "low resolution": "낮은 해상도",
    "dark or covered": "어둡거나 가려짐",
}
"""Words of ours that a group may catch."""

SENTENCES: tuple[tuple[str, str], ...] = (
    # the profile's notice, the agent
    (
        r"The demo model was trained on rendered barn clips only; it is not fit for decisions about real animals, and "
        r"the details in its reasons \(coats, numbers, who does what from where\) are often wrong\.",
        "데모 모델은 그려서 만든 축사 영상만 배웠습니다. 실제 소에 대한 결정에는 쓸 수 없으며, 이유에 적힌 "
        "자세한 내용(털색, 마릿수, 어느 소가 어느 쪽에서 무엇을 하는지)은 틀릴 때가 많습니다.",
    ),
    (
        r"These pictures are unlike anything this profile's models were trained on \(distance (.+), limit (.+)\), so "
        r"the verdict is unclear\.",
        "이 영상은 이 프로필의 모델이 배운 영상과 너무 달라(거리 {0}, 한도 {1}) 판정이 불분명합니다.",
    ),
    (
        r"The reference library is empty, so nothing was compared; add annotated clips to it\.",
        "참고 영상이 없어 비교하지 못했습니다. 분류한 영상을 넣어 주세요.",
    ),
    (
        r"The tuned model failed, so the base model's answer decides\.",
        "조정 모델이 실패하여 기본 모델의 답으로 결정합니다.",
    ),
    (r"The base model gave no answer: (.+)", "기본 모델이 답하지 못했습니다: {0}"),
    (r"The tuned model gave no answer: (.+)", "조정 모델이 답하지 못했습니다: {0}"),
    (
        r"The (base|tuned) model's answer was cut off at its length limit\.",
        "{0} 모델의 답이 길이 한도에서 잘렸습니다.",
    ),
    (
        r"The (base|tuned) model's text says (mounting|normal), but its score says (mounting|normal); "
        r"the score decides\.",
        "{0} 모델의 글은 {1}, 점수는 {2}입니다. 점수로 결정합니다.",
    ),
    (
        r"The (base|tuned) model's text says (clean|blur|noise|low resolution|dark or covered), but its score says "
        r"(clean|blur|noise|low resolution|dark or covered); the score decides\.",
        "{0} 모델의 글은 {1}, 점수는 {2}입니다. 점수로 결정합니다.",
    ),
    (
        r"The measures say (clean|blur|noise|low resolution|dark or covered)(?:, severity (\d))?, the model says "
        r"(clean|blur|noise|low resolution|dark or covered); look at the pictures\.",
        "측정 결과는 {0}, 모델의 답은 {2}입니다. 사진을 직접 확인해 주세요.",
    ),
    (
        r"The profile (.+) has no tuned adapter for the task (.+); train one or add one with .+",
        "프로필 {0}에 {1} 작업용 조정 어댑터가 없습니다. 학습하거나 추가해 주세요.",
    ),
    (
        r"The adapter (.+) was trained for the task (.+), not for (.+); choose another adapter or task\.",
        "어댑터 {0}은(는) {1} 작업용이며 {2} 작업에는 쓸 수 없습니다. 다른 어댑터나 작업을 고르세요.",
    ),
    (
        r"The picture is animated; its first frame was looked at\.",
        "움직이는 사진이라 첫 장면만 살펴보았습니다.",
    ),
    (
        r"“(.+)” is cut off, damaged or no JPEG, PNG or WebP picture; copy it from the camera again\.",
        "“{0}”은(는) 잘렸거나 손상되었거나 JPEG, PNG, WebP 사진이 아닙니다. 카메라에서 다시 복사해 주세요.",
    ),
    (
        r"“(.+)” is larger than (\d+) MB, too much for one picture; export it smaller\.",
        "“{0}”은(는) 사진 한 장으로는 너무 큽니다({1} MB 초과). 더 작게 저장해 주세요.",
    ),
    (r"The analysis was cancelled\.", "분석을 취소했습니다."),
    (
        r"Something went wrong inside HerdLens.*",
        "HerdLens 내부에서 문제가 생겼습니다. 자세한 내용은 로그에 있습니다.",
    ),
    (
        r"(\d+) analyses are waiting already; let one finish or cancel one\.",
        "이미 {0}건이 기다리고 있습니다. 하나가 끝나거나 취소된 뒤에 다시 해 주세요.",
    ),
    (
        r"There is no past analysis (.+); it may have been deleted\.",
        "기록에 {0} 분석이 없습니다. 삭제되었을 수 있습니다.",
    ),
    (
        r"The (base|tuned) model's probability is not calibrated, so take it as a rough guide\.",
        "{0} 모델의 확률은 보정되지 않았으니 참고로만 보세요.",
    ),
    # picture quality
    (
        r"The picture is black; check that the camera sees light and is not covered\.",
        "화면이 검습니다. 빛이 있는지, 카메라가 가려지지 않았는지 확인하세요.",
    ),
    (
        r"The picture is burnt out to white; .*",
        "화면이 하얗게 날아갔습니다. 카메라를 빛에서 돌리거나 노출을 낮추세요.",
    ),
    (
        r"The picture is one plain surface; .*",
        "화면에 아무 무늬도 없습니다. 렌즈가 가려졌거나 카메라가 영상을 보내지 않습니다.",
    ),
    (
        r"(\d+%) of the picture is covered by something dark; clean the lens or clear the view\.",
        "화면의 {0}가 어두운 것에 가려졌습니다. 렌즈를 닦거나 앞을 치우세요.",
    ),
    (
        r"Nothing at all changes in the picture; .*",
        "화면이 전혀 변하지 않습니다. 카메라나 녹화가 멈췄거나 움직이는 것이 없습니다.",
    ),
    (r"The picture is noisy .*", "화면에 잡음이 많습니다. 빛을 더하거나 카메라 선을 확인하세요."),
    (
        r"The picture holds no more detail than one (\d+) pixels wide; record at a higher resolution\.",
        "화면이 가로 {0}화소 수준으로만 보입니다. 더 높은 해상도로 녹화하세요.",
    ),
    (
        r"The picture is dark \(brightness (\d+) of 255\); add light or infrared light\.",
        "화면이 어둡습니다(밝기 {0}/255). 조명이나 적외선 조명을 더하세요.",
    ),
    (
        r"(\d+%) of the picture is burnt out to white; turn the camera away from the light\.",
        "화면의 {0}가 하얗게 날아갔습니다. 카메라를 빛에서 돌리세요.",
    ),
    (r"The picture is blurred .*", "화면이 흐립니다. 렌즈를 닦고 초점을 맞추세요."),
    # clips that are refused
    (
        rf"“(.+)” is a text file, not a video; upload {_ACCEPTED}\.",
        "“{0}”은(는) 영상이 아니라 글 파일입니다. 영상을 올려 주세요.",
    ),
    (rf"“(.+)” is (.+), not a video; upload {_ACCEPTED}\.", "“{0}”은(는) 영상이 아닙니다 ({1}). 영상을 올려 주세요."),
    (
        rf"“(.+)” is not a video that HerdLens can open; upload {_ACCEPTED}\.",
        "“{0}”은(는) HerdLens가 열 수 있는 영상이 아닙니다. MP4, MOV, AVI, MKV, WebM, GIF 영상을 올려 주세요.",
    ),
    (
        r"“(.+)” is empty \(0 bytes\); copy it from the camera again\.",
        "“{0}”은(는) 빈 파일입니다. 카메라에서 다시 복사해 주세요.",
    ),
    (
        r"“(.+)” is cut off or damaged: its index is missing, .*",
        "“{0}”은(는) 잘렸거나 손상되어 색인이 없습니다. 녹화가 끝난 뒤 카메라에서 다시 복사해 주세요.",
    ),
    (
        r"“(.+)” holds only sound; upload a recording with video\.",
        "“{0}”에는 소리만 있습니다. 화면이 있는 영상을 올려 주세요.",
    ),
    (
        r"“(.+)” holds .*; a clip needs at least half a second of video\.",
        "“{0}”은(는) 너무 짧습니다. 적어도 0.5초의 영상이 필요합니다.",
    ),
    (
        r"“(.+)” is only (.+) s long; a clip needs at least (.+) s\.",
        "“{0}”의 길이는 {1}초뿐입니다. 적어도 {2}초가 필요합니다.",
    ),
    (
        r"“(.+)” has pictures of (\d+) × (\d+) pixels, more than (\d+) million; "
        r"export it in 4K or smaller and try again\.",
        "“{0}”의 화면이 {1} × {2}로 너무 큽니다. 4K 이하로 다시 내보내 주세요.",
    ),
    (
        r"“(.+)” holds video in a form that cannot be decoded, .*",
        "“{0}”의 영상 형식을 읽을 수 없습니다. MP4(H.264)로 바꾸어 다시 올려 주세요.",
    ),
    (
        r"Almost none of the pictures of “(.+)” can be decoded: .*",
        "“{0}”의 화면을 거의 읽을 수 없습니다. 카메라에서 다시 복사해 주세요.",
    ),
    (
        r"“(.+)” is larger than (.+) GB; cut it, or put it into the media folder\.",
        "“{0}”이(가) {1} GB보다 큽니다. 잘라서 올리거나 영상 폴더에 넣어 주세요.",
    ),
    # what was looked at
    (
        r"Only (.+) to (.+) of (.+) was looked at, where most is moving; choose another window to see the rest\.",
        "전체 {2} 중 가장 많이 움직이는 {0}~{1}만 살펴보았습니다. 나머지를 보려면 다른 부분을 고르세요.",
    ),
    (r"Only (.+) to (.+) of (.+) was looked at.*", "전체 {2} 중 {0}~{1}만 살펴보았습니다."),
    (
        r"(\d+) of (\d+) pictures are damaged; their neighbours stand in for them\.",
        "화면 {1}장 중 {0}장이 손상되어 옆 화면으로 대신했습니다.",
    ),
    (
        r"The file announces (.+) s but ends at (.+) s; it seems to be cut off\.",
        "파일은 {0}초라고 하지만 {1}초에서 끝납니다. 잘린 것 같습니다.",
    ),
    *SERVER,
    *TRAIN,
)
