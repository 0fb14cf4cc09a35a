"""Which records may stand in one table."""

import pandas

from zeroq.errors import ZeroQError

# The float network's score differs by less between devices and versions of torch.
SAME_SCORE = {"top1": 0.2, "map": 0.005}


def check_same_origin(frame: pandas.DataFrame) -> None:
    """Raise ZeroQError where records of one network, and of one checkpoint of it, are not comparable."""
    # A checkpoint that was asked for shows in the row's settings.
    keys = ("model.checkpoint", "model.architecture")
    checkpoints = [" ".join(settings.get(key, "") for key in keys) for settings in frame.settings]
    for (model, _), records in frame.groupby(["model", checkpoints]):
        lowest, highest = (records.loc[index()] for index in (records.fp32_value.idxmin, records.fp32_value.idxmax))
        different = [
            (what, records.drop_duplicates(key).run)
            for what, key in {"weights": "network", "numbers of test images": "images"}.items()
        ]
        # Test sets of the same size show in what the float network makes of them.
        if highest.fp32_value - lowest.fp32_value > SAME_SCORE[highest.metric]:
            different.append(("scores of the float network", [lowest.run, highest.run]))
        for what, runs in different:
            if len(runs) > 1:
                raise ZeroQError(
                    f"the records of {model} have {len(runs)} different {what}, for example {' and '.join(runs[:2])}; "
                    f"run the old ones again with force=true, or keep them apart, results=…"
                )


def check_each_run_once(frame: pandas.DataFrame, keys: list[str]) -> None:
    """Raise ZeroQError where two records have the same ``keys`` and seed, so that their mean would be of one run."""
    for _, runs in frame.groupby([*keys, "seed"]).run:
        if len(runs) > 1:
            raise ZeroQError(f"two records are of the same run: {' and '.join(runs[:2])}; delete one of them")
