"""Which options to try next, by Optuna's TPE (Bergstra et al. 2011), from the trials so far."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

# The first ones are drawn at random.
STARTUP = 6


@dataclass(frozen=True, slots=True)
class Trial:
    """`value` is None while it runs; `pruned`: given up with that value."""

    values: Mapping[str, Any]
    value: float | None
    pruned: bool = False


def suggest(
    space: Mapping[str, Any],
    trials: Sequence[Trial],
    *,
    whole: frozenset[str],
    minimize: bool,
    seed: int,
) -> dict[str, Any]:
    """Values for the next trial; the same for the same trials and seed. `whole`: names of options
    whose numbers are whole ones."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds = {name: _distribution(given, name in whole) for name, given in space.items()}
    with warnings.catch_warnings():
        # Trials under way as if they had gone badly: an experiment of Optuna's, and a sound one.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP, constant_liar=True, multivariate=False
        )
        study = optuna.create_study(
            sampler=sampler, direction="minimize" if minimize else "maximize"
        )
        for trial in trials:
            study.add_trial(_past(trial, kinds))
        return dict(study.ask(kinds).params)


def _distribution(given: Any, whole: bool) -> BaseDistribution:
    if not isinstance(given, Mapping):
        return CategoricalDistribution(tuple(given))
    kind = IntDistribution if whole else FloatDistribution
    return kind(given["low"], given["high"], log=given["log"])


def _past(trial: Trial, kinds: Mapping[str, BaseDistribution]) -> Any:
    state = TrialState.RUNNING
    if trial.value is not None:
        state = TrialState.PRUNED if trial.pruned else TrialState.COMPLETE
    return optuna.trial.create_trial(
        state=state,
        value=trial.value if state != TrialState.RUNNING else None,
        params=dict(trial.values),
        distributions=dict(kinds),
        intermediate_values={0: trial.value} if trial.value is not None else {},
    )
