"""Memory that does not suffice is one sentence, at every stage."""

import subprocess
import sys

import numpy
import pytest
import torch

import zeroq
from experiments.core import scoring, stages
from experiments.core.memory import within_memory
from tests.command_line import COUNT, only_runs
from tests.paths import ROOT

TOO_MUCH = 2**50
# The command line with so many MiB of addresses beside those that it has once all is imported.
LIMITED = """
import resource, sys
from experiments import run
import experiments.core.once

size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv.pop(1)) * 2**20,) * 2)
run.main()
"""


@pytest.mark.parametrize("ask", [torch.empty, numpy.empty, lambda size: bytes(16 * size)])
def test_what_cannot_be_had_is_told(ask):
    with (
        pytest.raises(zeroq.ZeroQError, match="memory does not suffice for it; choose fewer images"),
        within_memory("it"),
    ):
        ask(TOO_MUCH)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), within_memory("it"):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_the_library_does_not_take_it_for_a_wrong_shape():
    class Large(torch.nn.Conv2d):
        def forward(self, images):
            return super().forward(images).expand(TOO_MUCH, *[-1] * 3).contiguous()

    with pytest.raises(RuntimeError, match="can't allocate memory"):
        zeroq.modules.forward(Large(3, 3, 1), torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("stage", ["sensitivity", "calibrate", "float", "evaluate"])
def test_each_stage_says_so(command, outputs, capsys, monkeypatch, stage):
    module = scoring if stage == "evaluate" else stages
    bar = module.progress_bar

    def asking(name, **words):
        if name == stage:
            torch.empty(TOO_MUCH)
        return bar(name, **words)

    monkeypatch.setattr(module, "progress_bar", asking)
    assert command("method=gaussian", "bits=mp4a8", "tracker=disabled", *COUNT) == 1
    said = capsys.readouterr()
    what = "this run" if stage == "evaluate" else f"the stage {stage}"
    assert f"error: memory does not suffice for {what}; choose fewer images (distill.count=…)" in said.out
    assert "Traceback" not in said.out + said.err
    assert only_runs(outputs) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mib", "words"),
    [
        (500, ["method=gaussian", "distill.count=100000"]),
        (300, ["method=zeroq", "distill.count=2000"]),
    ],
)
def test_a_count_within_its_bound_that_does_not_fit(tmp_path, mib, words):
    command = [sys.executable, "-c", LIMITED, str(mib), f"outputs={tmp_path}", "tracker=disabled", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.startswith("error: memory does not suffice for ")
    assert "Traceback" not in done.stdout + done.stderr
    assert only_runs(tmp_path) == set()
