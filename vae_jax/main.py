"""Trains and evaluates variational autoencoders.

Examples:
  python -m vae_jax.main --config=configs/faces.py
  python -m vae_jax.main --config=configs/mnist.py --config.objective.name=beta_vae --config.objective.args.beta=2
  python -m vae_jax.main --config=configs/mnist.py --mode=evaluate
  python -m vae_jax.main --workdir=runs/faces --mode=edit --attribute=Smiling

Every setting can be set as --config.<name>=<value>; vae_jax/config/schema.py
lists them with their units. SIGTERM and Ctrl-C save a run and end it with exit
code 75; the same command resumes it.

Several processes (GPUs on several machines, TPU pods) run the same command
each; see launch/. TPU pods, SLURM and Open MPI are detected; elsewhere set
--coordinator, --num_processes and --process_id.
"""  # noqa: E501

import functools

from absl import app, logging
from ml_collections import ConfigDict

from vae_jax import config as config_lib
from vae_jax import modes
from vae_jax.config import check, exits, flags, own_code
from vae_jax.runtime import logs


def usage() -> str:
  """Returns the text of --help."""
  table = modes.table()
  summaries = "\n".join(f"  {m.name:<12} {m.summary}" for m in table.values())
  readers = {
    flag: [m.name for m in table.values() if flag in m.flags]
    for flag in flags.MODE_FLAGS
  }
  return f"{__doc__}\nModes:\n{summaries}\n\nFlags:\n{flags.describe(readers)}"


def main(argv: list[str]) -> None:
  """Runs the mode that the flags name."""
  del argv
  logging.set_verbosity(logging.INFO)
  try:
    _run()
  except (Exception, KeyboardInterrupt) as error:
    code = exits.exit_code(error)
    if code is None:
      raise
    exits.leave(exits.words(error), code, error)


def _run() -> None:
  mode, values = modes.find(flags.MODE.value), flags.values()
  mode.check(values)
  flags.check(mode.name, mode.needs)
  workdir = flags.workdir(mode.prefix)
  config = _config(mode, workdir)
  if config is None:
    exits.say(mode.run(None, workdir, values))
    return
  check.validate(config)
  # Imported here so that --help and a misspelt flag answer at once.
  from vae_jax.runtime import devices, distributed, job
  from vae_jax.training import provenance

  devices.initialize(config.train.compilation_cache_dir)
  try:
    job.start(
      config,
      coordinator=flags.COORDINATOR.value,
      num_processes=flags.NUM_PROCESSES.value,
      process_id=flags.PROCESS_ID.value,
      facts={
        "--mode": mode.name,
        "--workdir": workdir,
        "the code (its digest)": provenance.code_version()["digest"],
        **provenance.packages(),
        **distributed.config_facts(config),
      },
    )
    if not mode.shared:
      job.check_alone(mode.name)
    with own_code.explained():
      text = mode.run(config, workdir, values)
    if text and devices.is_lead():
      exits.say(text)
    job.finish()
  except (Exception, KeyboardInterrupt) as error:
    exits.show(error)
    job.leave(error, exits.exit_code(error))
    raise


def _config(mode: modes.Mode, workdir: str) -> ConfigDict | None:
  """Returns the config that a mode needs; see `vae_jax.modes`."""
  if mode.needs == "nothing":
    return None
  if mode.needs == "config":
    config_lib.override_length(flags.CONFIG.value, flags.overrides())
    return flags.CONFIG.value
  from vae_jax.training import restore

  config = restore.load_config(workdir)
  config_lib.override_for_use(
    config, flags.overrides(config), other_data=mode.other_data
  )
  return config


def _main() -> None:
  logs.configure()
  app.run(main, flags_parser=functools.partial(flags.parse, usage=usage))


if __name__ == "__main__":
  _main()
