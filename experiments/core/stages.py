"""The stages of one run, each timed, shown, and taken from the cache where another run computed it."""

import hashlib
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.core.memory import within_memory
from experiments.core.progress import progress_bar
from experiments.core.record import STAGES
from experiments.core.store import StageCache, content, fingerprint, source_fingerprint
from zeroq.modules import model_device
from zeroq.pipeline import Stage


class Stages:
    """Runs the stages of one run; ``seconds`` says how long each took, now or when its result was kept."""

    def __init__(self, cache: Path, network: nn.Module):
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._cache = StageCache(cache)
        self._surroundings = {
            "device": str(model_device(network)),
            "torch": torch.__version__,
            "zeroq": source_fingerprint(),
        }

    def __call__(self, stage: Stage) -> Any:
        """The stage's result."""
        if stage.inputs is None:
            started = time.perf_counter()
            result = self._shown(stage)
            self._took(stage, time.perf_counter() - started)
            return result
        key = {"stage": stage.name, **self._surroundings, **described(dict(stage.inputs))}
        stored, seconds = self._cache.get(key, lambda: stage.pack(self._shown(stage)))
        self._took(stage, seconds)
        return stage.unpack(stored)

    def _shown(self, stage: Stage) -> Any:
        with within_memory(f"the stage {stage.name}"), progress_bar(stage.name) as progress:
            return stage.compute(progress)

    def _took(self, stage: Stage, seconds: float) -> None:
        if stage.name in self.seconds:
            self.seconds[stage.name] = seconds


def described(value: Any) -> Any:
    """A stage's input in plain words: networks and tensors by a hash of their content."""
    if isinstance(value, nn.Module):
        return fingerprint(value)
    if isinstance(value, torch.Tensor):
        return [list(value.shape), str(value.dtype), hashlib.sha256(content(value)).hexdigest()]
    if isinstance(value, dict):
        return {key: described(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [described(each) for each in value]
    return value
