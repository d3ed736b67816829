"""Trains and evaluates variational autoencoders.

Modes:
  train        train a model, or go on where the same command stopped
  evaluate     held-out neg_elbo, distortion and rate, to <workdir>/eval/
  reconstruct  images above their reconstructions, to <workdir>/figures/
  sample       decoded draws from the prior, there
  interpolate  from one image to another, linearly and spherically, there
  traverse     one latent after another from end to end, there
  decode       the image of a code: --latent=0.0,0.03, or of a file, there
  manifold     the plane of two latents, decoded, there
  attributes   directions of all attributes, to <workdir>/attributes/
  edit         faces along an attribute, drawn and measured, to <workdir>/edit/
  embed        codes of a split, pictured by PCA and UMAP, to <workdir>/embed/
  lesson       an autoencoder against a VAE at 2 and 32 latents: trains both on
               what the config says; to runs/lesson_<config>/
  export       the model in files that need no vae_jax, to <workdir>/export/
  explore      a web page with sliders, on this machine, until Ctrl-C
  benchmark    speed, compile time and memory of a config, to benchmark.json
  compare      runs side by side: --workdirs=runs/a,runs/b, to runs/compare/

Examples:
  python -m vae_jax.main --config=configs/faces.py
  python -m vae_jax.main --config=configs/mnist.py --config.objective.name=beta_vae --config.objective.args.beta=2
  python -m vae_jax.main --config=configs/mnist.py --mode=evaluate
  python -m vae_jax.main --workdir=runs/faces --mode=edit --attribute=Smiling

Several processes (GPUs on several machines, TPU pods) run the same command
each; see launch/. On TPU pods, SLURM and Open MPI they find each other;
elsewhere --coordinator, --num_processes and --process_id say how.

A config file may have variants, as configs/iwae_mnist.py:short. Every setting
of the config can be set as --config.<name>=<value>; they are listed, with
units, in vae_jax/config/schema.py. A run interrupted by SIGTERM or Ctrl-C saves
itself and exits with code 75; the same command goes on.
"""  # noqa: E501

import importlib
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from vae_jax import config as config_lib
from vae_jax.config import check
from vae_jax.config import flags as command_line
from vae_jax.modes import options as options_lib
from vae_jax.runtime import logs

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "File with get_config(), such as configs/faces.py.",
  # Keys that `args` nodes lack are new; all others are checked below.
  lock_config=False,
  accept_new_attributes=True,
)
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of the run; default runs/<name of the config file>[_<variant>].",
)
_WORKDIRS = flags.DEFINE_list(
  "workdirs", None, "Folders of the runs that --mode=compare compares."
)
# The function of each mode that reads a workdir: (config, workdir, options) ->
# what to print.
_FUNCTIONS = {
  "reconstruct": "vae_jax.modes.reconstruct",
  "sample": "vae_jax.modes.reconstruct",
  "interpolate": "vae_jax.modes.reconstruct",
  "traverse": "vae_jax.modes.traverse",
  "decode": "vae_jax.modes.reconstruct",
  "manifold": "vae_jax.modes.reconstruct",
  "attributes": "vae_jax.modes.attributes",
  "edit": "vae_jax.modes.edit",
  "embed": "vae_jax.modes.embed",
  "export": "vae_jax.modes.export",
  "lesson": "vae_jax.modes.lesson",
  "explore": "vae_jax.modes.explore.server",
}
# Those that take the config as it is given, not that of a trained run.
_OF_A_CONFIG = ("train", "benchmark", "lesson")
# Modes that several processes share; all others run in one process.
_TOGETHER = ("train", "evaluate", "benchmark")
_MODE = flags.DEFINE_enum(
  "mode",
  "train",
  ["train", "evaluate", "benchmark", "compare", *_FUNCTIONS],
  "What to do; see above.",
)
_SEED = flags.DEFINE_integer(
  "seed", None, "Of all that a mode draws at random; see config.sample.seed."
)
_TEMPERATURE = flags.DEFINE_float(
  "temperature", None, "Of samples; see config.sample.temperature."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of process 0, where processes meet."
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Processes of this job, on all machines."
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Which of them this is, from 0 on."
)
_OPTIONS = (
  flags.DEFINE_string(
    "images",
    None,
    "Which images: data:test:0-7, me.jpg or 'folder/*.png'; several: joined "
    "by |.",
  ),
  flags.DEFINE_string(
    "latent", None, "A code, as 0.0,0.03, or a file (.json, .npy, .npz)."
  ),
  flags.DEFINE_integer(
    "steps", None, "Pictures along each path; 9, a manifold's 20."
  ),
  flags.DEFINE_string(
    "attribute",
    None,
    "What to edit or to colour, as Smiling or Smiling=2,Eyeglasses=-1.",
  ),
  flags.DEFINE_string("strength", None, "Of edits, FIRST:LAST:STEP; -3:3:0.5."),
  flags.DEFINE_string(
    "direction", None, "Kinds of ways: mean,balanced,probe,curved."
  ),
  flags.DEFINE_integer(
    "examples", None, "Images that an edit is measured on; 200, 0 = none."
  ),
  flags.DEFINE_integer("count", None, "How many samples; 100."),
  flags.DEFINE_bool("individual", None, "A PNG for each sample."),
  flags.DEFINE_string("host", None, "Address to serve at; 127.0.0.1."),
  flags.DEFINE_integer(
    "port", None, "Port to serve at; 0 = any free one; the first from 7860 on."
  ),
  flags.DEFINE_float(
    "seconds", None, "That --mode=benchmark measures for; 15.", lower_bound=0.0
  ),
)


def _settings() -> tuple[ConfigDict, str]:
  """Returns the config and the workdir that the flags mean."""
  if _CONFIG.value is None and _WORKDIR.value is None:
    raise config_lib.ConfigError(
      "Name a config, as --config=configs/faces.py, or --help."
    )
  if _CONFIG.value is None and _MODE.value in _OF_A_CONFIG:
    raise config_lib.ConfigError(
      f"--mode={_MODE.value} needs a config, as --config=configs/faces.py."
    )
  workdir = _WORKDIR.value
  if workdir is None:
    file, _, variant = flags.FLAGS["config"].config_filename.partition(":")
    lesson = "lesson" if _MODE.value == "lesson" else ""
    name = "_".join(filter(None, [lesson, pathlib.Path(file).stem, variant]))
    workdir = str(pathlib.Path("runs") / name)
  if _MODE.value in _OF_A_CONFIG:
    for flag in (_SEED, _TEMPERATURE):
      if flag.value is not None:
        raise config_lib.ConfigError(
          f"--{flag.name} is not for --mode={_MODE.value}, which reads "
          f"--config.sample.{flag.name}."
        )
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    config_lib.override_length(_CONFIG.value, overrides)
    return _CONFIG.value, workdir
  from vae_jax.training import restore

  config = restore.load_config(workdir)
  overrides = (
    config_flags.get_override_values(flags.FLAGS["config"])
    if _CONFIG.value is not None
    else {}
  )
  if _SEED.value is not None:
    overrides |= {"sample.seed": _SEED.value, "eval.seed": _SEED.value}
  if _TEMPERATURE.value is not None:
    overrides |= {"sample.temperature": _TEMPERATURE.value}
  config_lib.override_for_use(config, overrides)
  check.validate(config)
  return config, workdir


def _compare() -> None:
  from vae_jax.modes import compare, compare_table

  folder = _WORKDIR.value or str(pathlib.Path("runs") / "compare")
  rows = compare.compare(_WORKDIRS.value or [], folder)
  print(compare_table.table(rows))


def _run() -> None:
  options = options_lib.Options(**{flag.name: flag.value for flag in _OPTIONS})
  options_lib.check(_MODE.value, options)
  if _TEMPERATURE.value is not None and _MODE.value != "sample":
    raise config_lib.ConfigError(
      f"--temperature is for --mode=sample, not {_MODE.value}."
    )
  if _MODE.value == "compare":
    _compare()
    return
  if _WORKDIRS.value is not None:
    raise config_lib.ConfigError(
      f"--workdirs is for --mode=compare, not {_MODE.value}; did you mean "
      "--workdir?"
    )
  config, workdir = _settings()
  check.validate(config)
  # Imported here so that --help and a misspelt flag answer at once.
  from vae_jax.runtime import devices, distributed, job
  from vae_jax.training import provenance

  devices.initialize(config.train.compilation_cache_dir)
  job.start(
    config,
    coordinator=_COORDINATOR.value,
    num_processes=_NUM_PROCESSES.value,
    process_id=_PROCESS_ID.value,
    facts={
      "--mode": _MODE.value,
      "--workdir": workdir,
      "the code (its digest)": provenance.code_version()["digest"],
      **provenance.packages(),
      **distributed.config_facts(config),
    },
  )
  if _MODE.value in _TOGETHER:
    said = _together(config, workdir, options)
    if said and devices.is_lead():
      print(said)
  else:
    module = importlib.import_module(_FUNCTIONS[_MODE.value])
    job.check_alone(_MODE.value)
    print(getattr(module, _MODE.value)(config, workdir, options))
  job.finish()


def _together(
  config: ConfigDict, workdir: str, options: options_lib.Options
) -> str:
  """Runs a mode that all processes share; returns what to print."""
  if _MODE.value == "train":
    from vae_jax import train

    train.train(config, workdir)
    return ""
  if _MODE.value == "evaluate":
    from vae_jax.modes import evaluate, evaluate_table
    from vae_jax.training import memory

    with memory.refusals(config):
      return evaluate_table.table(evaluate.evaluate(config, workdir))
  from vae_jax.modes import benchmark

  return benchmark.table(
    benchmark.benchmark(config, workdir, seconds=options.seconds)
  )


def main(argv: list[str]) -> None:
  """Runs the mode that the flags name."""
  del argv
  logging.set_verbosity(logging.INFO)
  try:
    _run()
  except config_lib.ConfigError as error:
    _part(error, command_line.EXIT_WRONG_INPUT)
  except KeyboardInterrupt:
    _part(KeyboardInterrupt("Stopped."), command_line.EXIT_CTRL_C)
  except OSError as error:
    if error.errno not in command_line.STORAGE_ERRORS:
      _part(error, None)
    _part(error, command_line.EXIT_STORAGE)
  except Exception as error:
    _part(error, getattr(error, "exit_code", None))


def _part(error: BaseException, code: int | None) -> None:
  """Ends this process after an error."""
  modules = sys.modules
  if "vae_jax.runtime.job" in modules:
    modules["vae_jax.runtime.job"].leave(error, code)
  if code is None:
    raise error
  command_line.leave(str(error), code)


def _main() -> None:
  logs.configure()
  app.run(main, flags_parser=command_line.parse)


if __name__ == "__main__":
  _main()
