"""A kept run can be exported however old it is: settings that came later have today's values."""

from collections.abc import Iterator

import pytest

from experiments.core.collecting import unpack
from experiments.core.deployment import config_of
from experiments.core.record import read_record
from experiments.core.results import KeptRuns
from tests.paths import RESULTS


def setting_names(config: dict, prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from setting_names(value, f"{prefix}{key}.")


def one_of_each_age() -> list[str]:
    """A run for each set of settings that a program once had."""
    lines = KeptRuns(RESULTS).lines
    return sorted({frozenset(setting_names(line["config"])): run for run, line in lines.items()}.values())


@pytest.mark.parametrize("run", one_of_each_age())
def test_settings_of_kept_runs_are_whole(run, tmp_path):
    folder = unpack(RESULTS, run, tmp_path / "runs")
    record = read_record(folder)
    config = config_of(folder, record, "elsewhere")
    assert (config.model.label, config.method.name) == (record["model"], record["method"])
    assert (config.seed, config.placement, config.bits.activation) == (
        *(record[key] for key in ("seed", "placement", "a_bits")),
    )
    assert config.method.per_channel == (record["granularity"] == "per_channel")
    assert (str(config.data.root), config.outputs) == ("elsewhere", tmp_path)
