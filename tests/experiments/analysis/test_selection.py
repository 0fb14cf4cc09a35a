"""Records that stand beside each other."""

from experiments.analysis.selection import level_order


def test_values_of_a_setting_are_in_order():
    assert sorted(["[2,3,4,8]", "[2,4,8]"], key=level_order) == ["[2,4,8]", "[2,3,4,8]"]
    assert sorted(["null", "10", "9.5"], key=level_order) == ["9.5", "10", "null"]
    assert sorted(["image", "batch", "99", "[2]"], key=level_order) == ["99", "[2]", "batch", "image"]
