"""The schema of a run: every setting, its default, unit and choices.

A file in `configs/` starts from `default()` and overrides a few lines. The
dictionary is locked, so that a misspelt setting stops the run. Only the `args`
nodes are open: `registry` checks them against the signature of the class or
function named next to them. `check` refuses impossible values.
"""

from typing import Any

from ml_collections import ConfigDict, FieldReference

# Settings of one machine; in these alone the processes of a job may differ.
MACHINE_FIELDS = frozenset(
  "data.dir data.manual_dir data.cache data.cache_dir data.num_threads "
  "train.compilation_cache_dir".split()
)
# A run may resume with other values of these settings, because none of them
# changes a number of the training run: paths, speed, memory and evaluation.
FREE_FIELDS = MACHINE_FIELDS | frozenset(
  "data.stored_size "
  "eval.batch_size eval.checkpoint eval.disentanglement eval.features.name "
  "eval.fidelity eval.importance_samples eval.latents eval.num_samples "
  "eval.split model.remat sample.seed sample.temperature train.log_every_steps "
  "train.max_skips_in_row train.patience train.steps_per_call "
  "checkpoint.every_steps checkpoint.keep_best checkpoint.keep_latest "
  "watch.heartbeat_seconds watch.stall_seconds watch.start_seconds".split()
)


def _named(name: str, **args: Any) -> dict[str, Any]:
  return {"name": name, "args": ConfigDict(args)}


def default() -> ConfigDict:
  """Returns the locked schema with its defaults."""
  c = ConfigDict()
  c.seed = 0  # of parameters, order of examples and all sampling in training

  # Of the weights alone; a new run otherwise, with a new optimizer.
  c.init_from = ""  # workdir of a run whose weights are the first; "" = none
  c.init_from_parts = ""  # such as encoder,decoder; "" = all parts

  c.data = ConfigDict()
  # The name of TFDS may be NAME[/CONFIG][:VERSION].
  c.data.name = "synthetic_faces"  # of TFDS, folder:PATH or arrays:FILE.npz
  c.data.dir = ""  # TFDS data dir; "" = $TFDS_DATA_DIR, ~/tensorflow_datasets
  c.data.manual_dir = ""  # folder with CelebA's official files; "" = none
  c.data.train_split = ""  # TFDS split; "" = train less the held-out part
  c.data.validation_split = ""  # TFDS split; "" = its own, or end of train
  c.data.test_split = ""  # TFDS split; "" = its own, or end of train
  c.data.label = ""  # feature or column, as attributes/Smiling; "" = automatic
  # A side or (height, width), pixels; 0 = none.
  c.data.crop = FieldReference(0, field_type=object)  # about the center
  c.data.resize = FieldReference(0, field_type=object)  # after the crop
  c.data.grayscale = False  # one channel (luma)
  c.data.background = "white"  # color behind transparent pixels
  c.data.range = ()  # stored values that become 0 and 255; () = by their type
  c.data.unreadable = "stop"  # stop | skip, at files that cannot be read
  c.data.flip = False  # mirror half of the training images, by chance
  c.data.shift = 0  # move training images by up to so many pixels, by chance
  c.data.image_shape = ()  # height, width, channels; () = the data set's own
  c.data.num_labels = 0  # classes, or attributes; 0 = the data set's own
  c.data.stored_size = ()  # height, width before crop; (0, 0) = they vary
  c.data.digest = ""  # hash of one's own images; "" = those that are found
  c.data.dequantization = "none"  # none | uniform noise between gray levels
  c.data.binarization = "none"  # none | static | dynamic, on the device
  c.data.cache = "host"  # none | host: decode once into a memory map
  c.data.cache_dir = ""  # "" = data/ in $VAE_JAX_CACHE_DIR, ~/.cache/vae_jax
  c.data.num_threads = 4  # threads that decode images

  c.model = ConfigDict()
  c.model.encoder = _named("conv")  # class of vae_jax.models.encoders
  c.model.decoder = _named("conv")  # class of vae_jax.models.decoders
  c.model.posterior = _named("diagonal_normal")  # of vae_jax.models.posteriors
  c.model.prior = _named("standard_normal")  # class of vae_jax.models.priors
  c.model.likelihood = _named("bernoulli")  # of vae_jax.models.likelihoods
  c.model.latent_dim = 32  # numbers per image
  c.model.condition = "none"  # none | label | attributes, given to both nets
  c.model.dtype = "float32"  # float32 | bfloat16, of the networks' arithmetic
  c.model.remat = False  # recompute activations: less memory, more time
  c.model.init = "flax"  # flax | glorot | torch, initial weights
  c.model.output_bias = "init"  # init: as weights | data: of the mean image

  c.objective = ConfigDict(_named("elbo"))  # function of vae_jax.objectives
  c.objective.auxiliary = ConfigDict()  # the network that it declares
  c.objective.auxiliary.args = ConfigDict()  # fields of that network

  c.optim = ConfigDict()
  c.optim.optimizer = _named("adam")  # function of optax, or muon
  c.optim.learning_rate = 1e-3  # the peak
  c.optim.schedule = _named("constant")  # schedule of vae_jax.training.optim
  c.optim.warmup_steps = 0  # steps of linear warm-up from 0
  c.optim.clip_norm = 0.0  # global gradient norm, nats per weight; 0 = off
  c.optim.skip_norm = 0.0  # skip steps whose norm is higher; 0 = off
  c.optim.auxiliary = ConfigDict()
  c.optim.auxiliary.optimizer = _named("adam")  # of the auxiliary network
  c.optim.auxiliary.learning_rate = 1e-4  # the peak, same schedule
  c.optim.ema_decay = 0.0  # decay per step of averaged weights; 0 = off

  c.train = ConfigDict()
  c.train.num_steps = 0  # optimizer steps; 0 = use num_epochs
  c.train.num_epochs = 0.0  # passes over the training split; 0 = use num_steps
  c.train.batch_size = 128  # images per step over all devices
  # Micro-batches per batch, computed in turn to save memory; a statistic of
  # the batch (BatchNorm, gaussian_optimal) is then one of a micro-batch.
  c.train.accumulate = 1  # micro-batches per step
  c.train.steps_per_call = 50  # steps per dispatch, at most
  c.train.log_every_steps = 100  # steps per row of metrics.jsonl
  # An epoch that is shorter than log_every_steps is not validated by itself.
  c.train.validate_every_steps = 0  # steps; 0 = once an epoch
  c.train.patience = 0  # validations without a better one that end it; 0 = off
  c.train.max_skips_in_row = 20  # consecutive skipped steps that end the run
  c.train.compilation_cache_dir = ""  # "" = compiled/ there; none = off

  c.checkpoint = ConfigDict()
  c.checkpoint.every_steps = 1000  # steps; also at the end and on a signal
  c.checkpoint.keep_latest = 1  # checkpoints
  c.checkpoint.keep_best = 1  # checkpoints, by validation neg_elbo

  c.watch = ConfigDict()
  c.watch.start_seconds = 300.0  # seconds to wait for all processes of a job
  c.watch.heartbeat_seconds = 30.0  # of silence until a process is lost
  c.watch.stall_seconds = 600.0  # seconds without a step; 0 = no limit

  c.eval = ConfigDict()
  c.eval.checkpoint = "latest"  # latest | best, by validation neg_elbo
  c.eval.split = "test"  # train | validation | test | all of them
  c.eval.batch_size = 512  # images; only batch statistics depend on it
  c.eval.seed = 0  # of sampling in evaluation; independent of `seed`
  c.eval.importance_samples = 0  # draws per image of the NLL; 0 = no NLL
  c.eval.latents = True  # active units, mutual information, their figure
  c.eval.disentanglement = False  # scores against true factors
  c.eval.fidelity = False  # FID, KID, precision and recall of samples
  c.eval.features = _named("inception")  # function of evaluate.features
  c.eval.num_samples = 10_000  # images that fidelity compares

  c.sample = ConfigDict()
  c.sample.seed = 0  # of samples from the prior
  c.sample.temperature = 1.0  # factor on the prior's standard deviation

  c.lock()
  _unlock_args(c)
  return c


def _unlock_args(config: ConfigDict) -> None:
  for key, value in config.items():
    if key == "args":
      value.unlock()
    elif isinstance(value, ConfigDict):
      _unlock_args(value)
