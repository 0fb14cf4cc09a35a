"""A folder in ImageNet's layout."""

from pathlib import Path

import pytest

from tests.zeroq.datasets.photographs import WORDNET_IDS, save


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory) -> Path:
    """One grey photograph in each of the 1,000 folders."""
    root = tmp_path_factory.mktemp("imagenet")
    for index, wordnet_id in enumerate(WORDNET_IDS):
        save(root / "val" / wordnet_id / "image.JPEG", index % 256)
    return root
