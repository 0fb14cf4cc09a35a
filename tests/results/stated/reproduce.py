"""The numbers of docs/reproduce.md."""

from collections.abc import Iterator

from experiments.analysis.collection import SAME_SCORE


def passages() -> Iterator[str]:
    yield f"moves a score by up to {SAME_SCORE['top1']} points ({SAME_SCORE['map']} mAP)"
