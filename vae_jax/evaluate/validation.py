"""The validations of a training run, and the pictures at its end."""

from absl import logging

from vae_jax.data import datasets
from vae_jax.evaluate import bound, summaries
from vae_jax.latents import trained_model
from vae_jax.runtime import devices, watchdog
from vae_jax.training import early_stopping, progress
from vae_jax.training import step as step_lib
from vae_jax.training.experiment import Experiment
from vae_jax.training.state import TrainState
from vae_jax.training.store import Store


class Validation:
  """Validates the states of a run on its held-out split."""

  def __init__(
    self, experiment: Experiment, held_out: datasets.Source, workdir: str
  ):
    """`held_out` is the validation split."""
    self._experiment, self._held_out = experiment, held_out
    self._workdir = workdir
    self._eval_step = step_lib.make_eval_step(experiment)

  def score(self, state: TrainState, store: Store) -> float | None:
    """Writes a row and pictures of a host copy of the state.

    All processes must call it.

    Returns:
      What ranks checkpoints, see `early_stopping.score`.
    """
    run = self._experiment
    model = trained_model.of_state(run, self._workdir, state)
    row = bound.mean_terms(
      self._eval_step,
      devices.replicate(model.variables),
      self._held_out,
      batch_size=run.config.eval.batch_size,
      step=model.step,
      seed=run.config.eval.seed,
    )
    epoch = model.step / run.steps_per_epoch
    store.writer.row(model.step, "validation", {**row, "epoch": epoch})
    if devices.is_lead():
      watchdog.progress("drawing")
      summaries.validation(model, self._held_out, store.writer)
    return early_stopping.score(row)

  def finish(self, state: TrainState) -> None:
    """Draws the final pictures, and logs the last validation."""
    if not devices.is_lead():
      return
    model = trained_model.of_state(self._experiment, self._workdir, state)
    summaries.at_the_end(model, self._held_out)
    progress.log_last_validation(self._workdir)
    logging.info("Results are in %s", self._workdir)
