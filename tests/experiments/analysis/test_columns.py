"""A method's row: its column, colour, pictures and reported name."""

import pandas
import pytest

from experiments.analysis.columns import COLUMNS, column_and_settings, column_of, column_order
from experiments.analysis.notes import DATA_NOTE, data_notes
from tests.experiments.analysis.records import record


@pytest.mark.parametrize(
    ("changes", "title", "settings"),
    [
        ({}, "ZeroQ", {}),
        ({"settings": {"distill": "bounded", "percentile": "99"}}, "ZeroQ, bounded", {"percentile": "99"}),
        ({"settings": {"distill": "mine"}}, "ZeroQ", {"distill": "mine"}),
        ({"method": "real"}, "Real data*", {}),
        ({"method": "gaussian", "settings": {"distill": "bounded"}}, "Gaussian", {"distill": "bounded"}),
        ({"method": "uniform_noise"}, "Uniform noise", {}),
        ({"method": "mine", "settings": {"placement": "after_relu"}}, "mine", {}),
    ],
)
def test_a_record_belongs_into_the_column_that_shows_most_of_its_settings(changes, title, settings):
    assert column_and_settings(record(**changes)) == (title, settings)


def test_titles_methods_and_colours_tell_columns_apart():
    measured = [column for column in COLUMNS if column.method]
    assert len({column.title for column in COLUMNS}) == len(COLUMNS)
    assert len({column.color for column in measured}) == len(measured)
    assert len({(column.method, *column.settings.items()) for column in measured}) == len(measured)


def test_a_method_without_a_row_has_a_column_behind_the_others():
    own = column_of("mine")
    assert (own.title, own.method, own.images) == ("mine", "mine", "mine")
    assert not own.needs_data
    titles = ["mine", *(column.title for column in COLUMNS)]
    assert sorted(titles, key=column_order) == [*titles[1:], "mine"]


def test_a_table_with_a_method_that_needs_data_says_so():
    assert data_notes(pandas.DataFrame(columns=["Network", "Real data*"])) == (DATA_NOTE,)
    assert data_notes(pandas.DataFrame({"Method": ["ZeroQ", "Real data*"]})) == (DATA_NOTE,)
    assert data_notes(pandas.DataFrame({"Method": ["ZeroQ"]})) == ()
