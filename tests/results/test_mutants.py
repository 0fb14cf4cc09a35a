"""What became of changed code: most changes are noticed, and of the others it is said why they are not."""

from tests.mutation import identity
from tests.results.stated.tests import FEWEST_KILLED, mutants, share_killed


def test_most_changes_are_noticed():
    assert share_killed(mutants()) >= FEWEST_KILLED


def test_each_change_stands_once_and_each_survivor_has_a_reason():
    found = mutants()
    assert len(set(map(identity, found))) == len(found)
    assert {mutant["outcome"] for mutant in found} <= {"killed", "survived"}
    assert [mutant for mutant in found if (mutant["outcome"] == "survived") != bool(mutant.get("reason"))] == []
