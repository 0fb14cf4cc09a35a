"""Every committed record is named by an experiment, and every run that a committed suite names has a record."""

import pytest

from experiments.cli.jobs import planned, planned_names
from experiments.core.choices import choices
from experiments.core.results import KeptRuns
from tests.paths import RESULTS

# Hydra composes some four hundred configurations. `make test-results` runs them.
pytestmark = pytest.mark.slow
# A search chooses its runs as it goes on.
EXPERIMENTS = [name for name in choices("experiment") if not name.startswith("search/")]


@pytest.fixture(scope="module")
def named() -> dict[str, list[str]]:
    """The runs of each experiment."""
    return {name: list(planned_names(planned([f"experiment={name}"]))) for name in EXPERIMENTS}


@pytest.fixture(scope="module")
def recorded() -> set[str]:
    return set(KeptRuns(RESULTS).lines)


def test_every_run_of_a_suite_has_a_record(named, recorded):
    missing = {experiment: sorted(set(runs) - recorded) for experiment, runs in named.items()}
    assert {experiment: runs for experiment, runs in missing.items() if runs} == {}


def test_every_record_is_of_a_suite(named, recorded):
    assert sorted(recorded.difference(*named.values())) == []


def test_an_experiment_names_a_run_once(named):
    assert {experiment: len(runs) for experiment, runs in named.items()} == {
        experiment: len(set(runs)) for experiment, runs in named.items()
    }
