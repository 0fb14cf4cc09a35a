"""ImageNet's validation photographs, in torchvision's ImageFolder layout."""

from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo

from zeroq.datasets.folder import Folder
from zeroq.errors import ZeroQError


class ImageNet(Folder):
    """``root/val/<wnid>/*.JPEG`` (or ``root/train``), served in batches that fit a network's input.

    Class indices are those of the sorted WordNet ids, as in every published checkpoint; ``files`` are the photographs.
    Raises ZeroQError for a folder that is missing or empty, or whose class folders are not the 1,000 ids.
    """

    name = "imagenet"
    classes = 1000

    @staticmethod
    def split_folder(root: Path, *, train: bool) -> Path:
        """The folder of the training or of the validation photographs."""
        return root / ("train" if train else "val")

    @classmethod
    def check_layout(cls, root: Path, *, train: bool = False) -> None:
        """Raise ZeroQError unless the split's folder holds one folder for each of ImageNet's 1,000 WordNet ids."""
        folder, known = cls.split_folder(root, train=train), ImageNetInfo().label_names()
        if not folder.is_dir():
            hint = f"{root} holds the class folders itself; " if (root / known[0]).is_dir() else ""
            raise ZeroQError(f"{folder} is no folder; {hint}root is the folder that holds {folder.name}/")
        found = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if found == known:
            return
        strange, missing = sorted(set(found) - set(known)), sorted(set(known) - set(found))
        details = [
            f"{len(names)} {what}, first {names[0]}"
            for what, names in (("missing", missing), ("unknown", strange))
            if names
        ]
        raise ZeroQError(
            f"{folder} has {len(found)} class folders, which should be ImageNet's 1000 WordNet ids "
            f"({'; '.join(details)}); labels would not fit the network's outputs; data=folder takes other classes"
        )
