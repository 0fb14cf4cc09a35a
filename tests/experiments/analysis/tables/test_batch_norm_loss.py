"""The BatchNorm loss of distilled images and of noise."""

from experiments.analysis.selection import recipe_words
from experiments.analysis.tables.batch_norm_loss import loss_table
from tests.experiments.analysis.records import record


def test_losses_of_another_checkpoint_have_a_row_of_their_own():
    distilled = {"distill_loss": 1.0, "gaussian_loss": 30.0, "seconds": {"distill": 2.0}}
    own = record(**distilled, network="3c4d", settings={"model.checkpoint": "mine.pt"})
    assert list(loss_table([record(**distilled), own]).Settings) == ["", "model.checkpoint=mine.pt"]
    assert recipe_words(own) == ("fashion/resnet18", "model.checkpoint=mine.pt")
