"""What Hydra answers with a page, a riddle or its own words: flags, its grammar, references, its own settings."""

import re
from collections import Counter
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from experiments.core.choices import CONF, check_known, flattened
from zeroq.errors import ZeroQError

LIST = "--list"  # the one flag that is not Hydra's
REFERENCE = re.compile(r"\$\{([a-z_]+(?:\.[a-z_]+)*)\}")


def words_and_flags(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The settings of a command line, and Hydra's flags with what belongs to them.

    Raises ZeroQError for a flag that does not exist, and for a word that is neither.
    """
    parser = get_args_parser()
    parser.error = _refuse  # it would print a page
    parsed, unknown = parser.parse_known_args([each for each in arguments if each != LIST])
    flags = sorted(option for action in parser._actions for option in action.option_strings)
    for word in unknown:
        if word.startswith("-"):
            check_known(word.partition("=")[0], [*flags, LIST], f"there is no flag {word}", "they are")
    if parsed.config_name not in (None, "config") and parsed.config_dir is None:
        raise ZeroQError(f"there is no config {parsed.config_name}; the only one is config")
    # Hydra's parser knows settings only where no flag stands between them.
    words = [*parsed.overrides, *unknown]
    return words, list((Counter(arguments) - Counter([*words, LIST])).elements())


def _refuse(message: str) -> NoReturn:
    raise ZeroQError(message)


def check_grammar(words: list[str], known: list[str]) -> None:
    """Raise ZeroQError for what Hydra cannot read, and for a reference to a setting that is not among the known."""
    parser = OverridesParser.create()
    for word in words:
        key, separator, value = word.partition("=")
        if not separator and not word.startswith("~"):
            check_known(key.lstrip("+"), known, f"{word} is neither setting=value nor a flag", "the settings are")
            raise ZeroQError(f"{word} has no value; say {word}=…")
        try:
            parser.parse_override(word)
        except HydraException as error:
            said = str(error).splitlines()
            if len(said) > 1:  # an unknown function, and those that there are
                raise ZeroQError(f"{word} cannot be read: {said[0].rpartition(': ')[2]}; {said[1].lower()}") from error
            raise ZeroQError(
                f"{word} cannot be read: brackets, commas, colons, = and quotes have a meaning in a value; put one "
                f"that has them otherwise into two pairs of quotes, {key}='\"…\"'"
            ) from error
        for name in REFERENCE.findall(value):
            check_known(name, known, f"{word} refers to {name}, which is no setting", "the settings are")


def check_keys_of_hydra(words: list[str]) -> None:
    """Raise ZeroQError for a setting of Hydra's own that does not exist, with those beside it that do."""
    keys = [word.partition("=")[0].lstrip("+~") for word in words if not word.startswith(("+", "~"))]
    if not any(key.startswith(("hydra.", "hydra/")) for key in keys):
        return
    chosen = [word for word in words if word.startswith("hydra/")]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        groups = [each for each in _hydra_config([]).hydra.runtime.choices if each.startswith("hydra/")]
        for key in keys:
            if key.startswith("hydra/"):
                check_known(key, groups, f"there is no {key}", "there are")
        config = _hydra_config(chosen)
    known = list(flattened({"hydra": OmegaConf.to_container(config.hydra)}))
    for key in keys:
        if key.startswith("hydra.") and key not in known:
            parent = max((each for each in known if key.startswith(f"{each}.")), key=len, default="hydra")
            beside = [each for each in known if each.rpartition(".")[0] == parent]
            check_known(key, beside, f"there is no setting {key}", "there are")


def _hydra_config(words: list[str]):
    return hydra.compose("config", words, return_hydra_config=True)
