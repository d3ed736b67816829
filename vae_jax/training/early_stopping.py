"""The end of a run whose validations get no better: `config.train.patience`.

The decision is a function of the validations so far, which `metrics.jsonl`
holds: a run that is killed and resumed ends at the same step.
"""

from ml_collections import ConfigDict

from vae_jax.runtime import devices, distributed, storage
from vae_jax.training import validations


class Patience:
  """The validations of a run, and whether they are enough."""

  def __init__(self, config: ConfigDict, workdir: storage.PathLike, step: int):
    """Reads the validations up to a step; all processes must call it."""
    self._patience = config.train.patience
    found = []
    if self._patience and devices.is_lead():
      scores = validations.scores(workdir).items()
      found = [(at, value) for at, value in scores if at <= step]
    # JSON has no numbers as keys.
    found = distributed.from_lead("the validations", found)
    self._scores: validations.Scores = dict(map(tuple, found))

  def add(self, step: int, value: float | None) -> None:
    """Adds the score of a validation."""
    self._scores[step] = value

  def is_over(self) -> bool:
    """Returns whether the last validations, `patience` of them, are no better
    than the best one before them."""
    return 0 < self._patience <= self._since_best()

  def _best(self) -> int:
    """Returns the step of the best validation, the first of equal ones."""
    finite = {k: v for k, v in self._scores.items() if v is not None}
    return min(finite, key=finite.get) if finite else 0

  def _since_best(self) -> int:
    return sum(step > self._best() for step in self._scores)

  def describe(self) -> str:
    """Returns a sentence about the end of a run that is over."""
    best, last = self._best(), max(self._scores)
    value = self._scores.get(best)
    found = (
      f"the best one, at step {best}, has {value:.3f}; "
      "--config.eval.checkpoint=best opens it"
      if value is not None
      else "none is finite"
    )
    return (
      f"Step {last} is the last one: {self._since_best()} validations in a "
      f"row were no better (config.train.patience); {found}."
    )
