"""The command that trains the bundled networks."""

import sys

import pytest

from experiments import train_zoo
from zeroq.errors import ZeroQError
from zeroq.networks import zoo

CARDS = {"resnet18": {"top1": 92.3}, "retinanet": {"map": 0.71}}


def call(monkeypatch, train, *words: str) -> None:
    monkeypatch.setattr(train_zoo, "train", train)
    monkeypatch.setattr(sys, "argv", ["train_zoo", *words])
    train_zoo.main()


def test_each_network_is_trained_where_it_is_told(monkeypatch, tmp_path, capsys):
    folders = []

    def train(architecture: str, **where) -> dict:
        folders.append(where)
        return {**CARDS[architecture], "seconds": 5, "device": "cpu"}

    call(monkeypatch, train, *CARDS, f"--data={tmp_path}", f"--checkpoints={tmp_path / 'c'}")
    assert capsys.readouterr().out.splitlines() == [
        "resnet18: 92.30 % top-1, 5 s on cpu",
        "retinanet: 0.710 mAP, 5 s on cpu",
    ]
    assert folders == 2 * [{"data": tmp_path, "checkpoints": tmp_path / "c", "weights": zoo.WEIGHTS}]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ZeroQError("another recipe"), "error: another recipe"),
        (OSError("No space left on device"), "error: No space left on device"),
        (KeyboardInterrupt(), "interrupted; start the same command again"),
    ],
)
def test_what_stops_it_is_one_sentence(monkeypatch, error, sentence):
    def train(*words, **where):
        raise error

    with pytest.raises(SystemExit, match=sentence):
        call(monkeypatch, train, "resnet18")


def test_a_network_that_is_not_in_the_zoo(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(monkeypatch, None, "resnet81")
    assert "the bundled zoo has no resnet81; it has " in capsys.readouterr().err
