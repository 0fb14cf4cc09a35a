"""Which runs stand in the figure of sensitivities by images, and what their ranks have in common."""

import matplotlib.pyplot as plt
import pandas
import pytest

from experiments.analysis.figures.sensitivity_by_images import (
    draw,
    middle_width,
    rank_correlations,
    records_by_network,
)
from tests.experiments.analysis.records import record

GAUSSIAN, ZEROQ, REAL = "Gaussian", "ZeroQ", "Real data*"


def table(*values: float, widths=(2, 4, 8)) -> pandas.DataFrame:
    """Ω of as many layers as there are values, the same at all widths."""
    return pandas.DataFrame(dict.fromkeys(widths, values), index=[f"layer{each}" for each in range(len(values))])


def test_of_each_kind_the_mixed_run_of_the_first_seed_is_chosen():
    records = [
        record(run="uniform"),
        record(run="later", w_bits="MP4", seed=1),
        record(run="mixed", w_bits="MP4"),
        record(run="swept", w_bits="MP4", settings={"distill.count": "8"}),
        record(run="real", method="real"),
        record(run="alone", method="real", model="fashion/resnet50"),
        record(run="bounded", settings={"distill": "bounded"}),
    ]
    chosen = records_by_network(records)
    assert {model: {kind: own["run"] for kind, own in kinds.items()} for model, kinds in chosen.items()} == {
        "fashion/resnet18": {ZEROQ: "mixed", REAL: "real"}
    }
    assert records_by_network([record()]) == {}


def test_layers_that_scores_do_not_depend_on_have_no_rank():
    real = table(4, 3, 2, 1, 0, 0)
    own = {GAUSSIAN: table(1, 2, 3, 4, 0, 0), ZEROQ: table(9, 8, 1, 2, 0, 0), REAL: real}
    # Two neighbours of four changed places: 1 − 6 · 2 / (4 · 15).
    assert rank_correlations(own, 4) == {GAUSSIAN: pytest.approx(-1), ZEROQ: pytest.approx(0.8)}


def test_the_width_is_one_that_all_have():
    assert middle_width({ZEROQ: table(1, 2), REAL: table(1, 2)}) == 4
    assert middle_width({ZEROQ: table(1, widths=(2, 3, 4, 5, 8)), REAL: table(1, widths=(3, 8))}) == 8
    with pytest.raises(ValueError, match="no width in common"):
        middle_width({ZEROQ: table(1, widths=(3,)), REAL: table(1)})


def test_a_panel_has_a_line_for_each_kind():
    own = {ZEROQ: table(4, 3, 1, 2), REAL: table(4, 3, 2, 1)}
    figure = draw({"fashion/resnet18": own, "fashion/resnet50": own})
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    assert figure.axes[0].get_title() == "fashion/resnet18, 4 bits\nρ: distilled 0.80"
    plt.close(figure)
