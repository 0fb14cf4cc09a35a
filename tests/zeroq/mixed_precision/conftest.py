"""Both forms of the dynamic programme."""

import pytest

from zeroq.mixed_precision import knapsack


@pytest.fixture(params=["lists", "tables", "both"])
def _every_form(request):
    """Lists alone, tables alone, and changing often between them; tables in blocks that layers span."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knapsack, "CELLS_PER_ENTRY", {"lists": 0, "tables": float("inf"), "both": 2}[request.param])
        patch.setattr(knapsack, "BLOCK", 16)
        yield
