"""Records can be made again."""

import sys

import pytest

from experiments import reproduce
from experiments.core.collecting import unpack
from tests.paths import RESULTS

NAME = "fashion-resnet18,naive,w4a8,seed=0,method.per_channel=true"


@pytest.mark.slow
def test_a_record_is_made_again_and_compared(tmp_path, monkeypatch, capsys):
    unpack(RESULTS, NAME, tmp_path / "runs")
    monkeypatch.setattr(sys, "argv", ["reproduce", f"outputs={tmp_path}", "count=3"])
    reproduce.main()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[0] in ("same", "close")
    assert line.endswith(NAME)


def test_what_differs_ends_with_one(tmp_path, monkeypatch, capsys):
    unpack(RESULTS, NAME, tmp_path / "runs")
    monkeypatch.setattr(reproduce, "again", lambda record, outputs: record | {"value": record["value"] + 0.3})
    monkeypatch.setattr(sys, "argv", ["reproduce", f"outputs={tmp_path}"])
    with pytest.raises(SystemExit) as ended:
        reproduce.main()
    assert ended.value.code == 1
    assert capsys.readouterr().out.startswith("DIFFERENT")


def test_no_record_of_a_bundled_network_is_said(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    lines = (RESULTS / "runs" / "imagenet-efficientnet_lite0.jsonl").read_text()
    (tmp_path / "runs" / "imagenet-efficientnet_lite0.jsonl").write_text(lines)
    (tmp_path / "networks.json").symlink_to(RESULTS / "networks.json")
    monkeypatch.setattr(sys, "argv", ["reproduce", f"results={tmp_path}"])
    with pytest.raises(SystemExit, match="no record of a bundled network"):
        reproduce.main()


@pytest.mark.parametrize(("now", "verdict"), [(91.72, "same"), (91.92, "close"), (91.9201, "DIFFERENT")])
def test_the_tolerance_is_of_scores_as_they_are_recorded(now, verdict):
    assert reproduce.verdict({"value": 91.72, "metric": "top1"}, {"value": now}) == verdict
