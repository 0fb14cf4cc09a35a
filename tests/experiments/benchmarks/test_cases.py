"""The benchmark: cases are measured in turns, stored, and shown."""

import ctypes
import json
import sys

import pytest
import torch

from experiments import bench
from experiments.benchmarks.cases import STAGES, cases, frontiers, full_forwards, products, random_table
from experiments.benchmarks.table import Benchmarks
from experiments.benchmarks.timing import Case, measured
from zeroq.mixed_precision.frontier import pareto_frontier
from zeroq.mixed_precision.sensitivity import sensitivity
from zeroq.networks import zoo


def case(calls: list[str], **words) -> Case:
    def called(name: str, value: float):
        return lambda: calls.append(name) or value

    return Case(
        "stage",
        "network",
        "size",
        "cpu",
        called("ours", 1.0),
        called("theirs", 2.0),
        "theirs",
        **words,
        found=lambda value: {"loss": value},
    )


def test_a_case_and_its_reference_take_turns():
    calls: list[str] = []
    timing = measured(case(calls, aim=0.5, flops=1e6), 3)
    assert calls == ["theirs", "ours"] * 4  # once to warm up
    assert len(timing.seconds) == len(timing.reference_seconds) == len(timing.ratios) == 3
    assert timing.found == {"loss": [1.0] * 3}
    assert timing.reference_found == {"loss": [2.0] * 3}
    assert 0 < timing.floor_seconds < 1
    calls.clear()
    measured(case(calls, warm_up=False), 1)
    assert calls == ["theirs", "ours"]


def test_what_was_measured_again_replaces_what_was(tmp_path):
    benchmarks = Benchmarks(tmp_path, {"processor": "P"})
    first, second = (measured(case([], aim=0.5), 1) for _ in range(2))
    benchmarks.add(first)
    benchmarks.add(second)
    (stored,) = json.loads((tmp_path / "cpu.json").read_text())["timings"]
    assert stored["seconds"] == second.seconds
    table = (tmp_path / "table.md").read_text()
    assert "| stage" in table
    assert table.count("not measured") == 3  # the paper's networks on a GPU
    assert "cpu: processor P." in table


def test_peak_memory_is_that_of_the_case():
    ctypes.CDLL(None).malloc_trim(0)  # what tests before it freed would be used again
    hungry = Case("stage", "network", "size", "cpu", lambda: torch.ones(200 * 2**18).sum(), warm_up=False)
    assert measured(hungry, 1).peak_mib == pytest.approx(200, abs=40)


def test_the_work_of_a_network():
    """Against the formula for one convolution: 2 · outputs · height · width · inputs · kernel."""
    network = zoo.load("resnet18")
    work = products(network, torch.device("cpu"), 3)
    layer = network.module.get_submodule("features.init_block.conv.conv")
    height = network.input.shape[1] // layer.stride[0]
    assert work["features.init_block.conv.conv"] == 3 * 2 * layer.weight.numel() * height**2


def test_full_forwards_are_the_definition_of_sensitivity():
    network = zoo.load("mobilenetv2")
    module = network.module.double()  # in which folding BatchNorm rounds next to nothing
    images = torch.randn(2, *network.input.shape, generator=torch.Generator().manual_seed(0)).double()
    values = sensitivity(module, images, (2, 4, 8)).to_numpy().ravel()
    torch.testing.assert_close(
        torch.tensor(full_forwards(module, images)),
        torch.tensor(values).double(),
        rtol=1e-5,
        atol=1e-9,
        check_dtype=False,
    )


def test_every_stage_has_cases():
    for stage in STAGES:
        for each in cases([stage], ["fashion/resnet18"], torch.device("cpu"), None):
            assert each.stage.startswith(stage)
            if stage != "evaluate" or each.flops:
                assert each.reference is not None


def test_the_frontier_s_reference_agrees():
    (small, _) = list(frontiers(torch.device("cpu")))
    table = random_table(54, (2, 4, 8))
    frontier, cheapest = pareto_frontier(table), small.reference()
    index = frontier.index_within(4 * sum(table.parameters.values()))
    assert frontier.sensitivities[index] == pytest.approx(cheapest, rel=1e-6)


def test_the_program(tmp_path, monkeypatch, capsys):
    words = ["bench", "stages=calibrate", "networks=fashion/resnet18", "repetitions=1", f"results={tmp_path}"]
    monkeypatch.setattr(sys, "argv", words)
    bench.main()
    assert "calibrate fashion/resnet18 (32 images)" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "benchmarks").iterdir()} == {
        "cpu.json",
        "table.md",
        "table.tex",
        "table.csv",
    }
    monkeypatch.setattr(sys, "argv", ["bench", "stages=train"])
    with pytest.raises(SystemExit, match="there is no stage train"):
        bench.main()
