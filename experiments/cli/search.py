"""A search: an optimizer (optuna) chooses the runs. Its trials are kept, so that it goes on where it was stopped."""

import hashlib
from dataclasses import dataclass

import hydra

from experiments.core.choices import CONF
from zeroq.errors import ZeroQError

# What does not change what a search is about.
SAME_SEARCH = ("outputs=", "tracker", "device=", "hydra.sweeper.n_trials=", "hydra.sweeper.sampler.seed=")
SAME_SEARCH += ("hydra/launcher", "hydra.launcher", "-")


@dataclass(frozen=True)
class Search:
    """The study that a command line's trials belong to; ``trials`` in all, and the sampler's ``seed``."""

    name: str
    storage: str
    trials: int
    seed: int

    @classmethod
    def of(cls, arguments: list[str]) -> "Search":
        """Named after what is searched, so that searches for other things do not share trials."""
        own = [each for each in arguments if each.startswith(("experiment=", "outputs=", "hydra.sweeper", "hydra/sw"))]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            sweeper = hydra.compose("config", own, return_hydra_config=True).hydra.sweeper
        about = sorted(argument for argument in arguments if not argument.startswith(SAME_SEARCH))
        digest = hashlib.sha256("\n".join(about).encode()).hexdigest()[:8]
        return cls(f"{sweeper.study_name}-{digest}", sweeper.storage, sweeper.n_trials, sweeper.sampler.seed)

    def left(self) -> int:
        """How many trials are still to be done."""
        return max(self.trials - len(self.completed()), 0)

    def overrides(self) -> list[str]:
        """What tells Hydra to do the trials that are left; another seed does not propose the same ones again."""
        return [
            f"hydra.sweeper.study_name={self.name}",
            f"hydra.sweeper.n_trials={self.left()}",
            f"hydra.sweeper.sampler.seed={self.seed + len(self.completed())}",
        ]

    def completed(self) -> list:
        """The trials that gave a value."""
        import optuna  # only installed for searches

        studies = optuna.get_all_study_summaries(self.storage)
        if self.name not in [study.study_name for study in studies]:
            return []
        study = optuna.load_study(study_name=self.name, storage=self.storage)
        return [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]

    def best(self) -> str:
        """The best trial in words; raises ZeroQError where no trial gave a value."""
        import optuna

        if not (trials := self.completed()):
            raise ZeroQError("no trial of the search gave a value, so there is no best one")
        best = optuna.load_study(study_name=self.name, storage=self.storage).best_trial
        settings = " ".join(f"{key}={value}" for key, value in best.params.items())
        return f"the best of {len(trials)} trials: {best.value:.4g} with {settings}"
