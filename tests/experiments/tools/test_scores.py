"""Scores as they are stored: a line each, in a file a tool."""

import pytest

from experiments.tools.scores import Run, add, scores_of, stored
from zeroq.errors import ZeroQError

SCORE = {"network": "fashion/resnet18", "tool": "nncf", "images": "real", "bits": "W8/A8", "seed": 1, "top1": 91.5}


def test_a_score_is_found_again_beside_those_of_other_tools(tmp_path):
    others = [SCORE | {"tool": "pt2e"}, SCORE | {"seed": 0}, SCORE | {"network": "fashion/mobilenetv2"}]
    for score in (SCORE, *others):
        add(tmp_path, score)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nncf.jsonl", "pt2e.jsonl"]
    assert sorted(map(str, scores_of(tmp_path))) == sorted(map(str, (SCORE, *others)))
    assert stored(tmp_path, "fashion/mobilenetv2") == {Run("nncf", "real", "W8/A8", 1)}
    assert stored(tmp_path, "fashion/resnet50") == set()


def test_files_do_not_depend_on_the_order_of_scores(tmp_path):
    pair = (SCORE, SCORE | {"seed": 0})
    texts = []
    for name, order in (("forth", pair), ("back", pair[::-1])):
        (tmp_path / name).mkdir()
        for score in order:
            add(tmp_path / name, score)
        texts.append((tmp_path / name / "nncf.jsonl").read_text())
    assert texts[0] == texts[1]


@pytest.mark.parametrize("line", ["{", "[]", "{}"])
def test_a_damaged_line_is_named(tmp_path, line):
    add(tmp_path, SCORE)
    with (tmp_path / "nncf.jsonl").open("a") as file:
        file.write(line)
    with pytest.raises(ZeroQError, match=r"nncf\.jsonl, line 2, is no score; remove the line"):
        scores_of(tmp_path)
