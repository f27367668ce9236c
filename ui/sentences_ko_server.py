"""Korean wording of what is said about model servers; see ``sentences_ko``."""

from __future__ import annotations

SENTENCES: tuple[tuple[str, str], ...] = (
    (
        r"No model server answers at (.+); start it with 'make serve' and wait until it says that it is ready, or set "
        r"HERDLENS_SERVER_URL to where one runs\.",
        "{0}에서 응답하는 모델 서버가 없습니다. 'make serve'로 시작하고 준비되었다고 나올 때까지 기다리거나, "
        "서버가 있는 주소를 HERDLENS_SERVER_URL에 지정하세요.",
    ),
    (
        r"The model server at (.+) gave no sign of life for (.+) seconds; it is overloaded or stuck: look at its "
        r"terminal, then try again, or raise HERDLENS_SERVER_TIMEOUT_S\.",
        "{0}의 모델 서버가 {1}초 동안 반응이 없습니다. 과부하이거나 멈춘 상태이니 서버의 터미널을 확인한 뒤 다시 "
        "시도하거나 HERDLENS_SERVER_TIMEOUT_S를 늘리세요.",
    ),
    (
        r"The connection to the model server at (.+) broke off in the middle of an answer; start it with 'make serve' "
        r"if it has stopped, then analyse the clip again\.",
        "{0}의 모델 서버와의 연결이 답변 도중에 끊겼습니다. 서버가 멈췄으면 'make serve'로 시작한 뒤 영상을 다시 "
        "분석하세요.",
    ),
    (
        r"The model server at (.+) is overloaded or still starting \(status (.+)\); wait a moment, then analyse the "
        r"clip again\.",
        "{0}의 모델 서버가 과부하이거나 아직 시작하는 중입니다(상태 {1}). 잠시 기다린 뒤 영상을 다시 분석하세요.",
    ),
    (
        r"The model server at (.+) refuses the key; set HERDLENS_SERVER_KEY to the key that it was started with\.",
        "{0}의 모델 서버가 키를 거부합니다. 서버를 시작할 때 쓴 키를 HERDLENS_SERVER_KEY에 지정하세요.",
    ),
    (
        r"What answers at (.+) is no OpenAI-compatible server; set HERDLENS_SERVER_URL to the address of one, which "
        r"ends in /v1\.",
        "{0}에서 응답하는 것은 OpenAI 호환 서버가 아닙니다. HERDLENS_SERVER_URL에 /v1로 끝나는 서버 주소를 지정하세요.",
    ),
    (
        r"The model server gives no log-probabilities of chosen tokens, so the answer's text decides and there is no "
        r"probability; 'make serve' starts one that does\.",
        "모델 서버가 지정한 토큰의 로그 확률을 주지 않아, 답변의 글로 판정하며 확률은 없습니다. 'make serve'로 시작한 "
        "서버는 로그 확률을 줍니다.",
    ),
    (
        r"The model server takes no frames with exact times, so it saw the clip as single pictures, which is not what "
        r"adapters were trained on; 'make serve' starts one that does\.",
        "모델 서버가 정확한 시각이 있는 프레임을 받지 않아 영상을 낱장 사진으로 보았습니다. 어댑터는 그렇게 학습되지 "
        "않았습니다. 'make serve'로 시작한 서버는 프레임을 시각과 함께 받습니다.",
    ),
)
