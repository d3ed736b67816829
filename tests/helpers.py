"""A run small enough for a test: tiny drawn faces, tiny networks."""

from vae_jax import config as config_lib


def tiny_config(data_dir, **settings):
  """Returns a config on `synthetic_faces/tiny`, 16 x 16 grey, changed by
  settings whose dots are written as two underscores."""
  c = config_lib.default()
  c.data.name = "synthetic_faces/tiny"
  c.data.dir = str(data_dir)
  c.data.cache = "none"
  c.data.resize = 16
  c.data.grayscale = True
  c.model.encoder.name = "mlp"
  c.model.encoder.args.hidden = (16,)
  c.model.decoder.name = "mlp"
  c.model.decoder.args.hidden = (16,)
  c.model.latent_dim = 3
  c.train.num_steps = 20
  c.train.batch_size = 16
  c.train.steps_per_call = 5
  c.train.log_every_steps = 1
  c.train.validate_every_steps = 1000
  c.checkpoint.every_steps = 1000
  c.eval.batch_size = 16
  c.train.compilation_cache_dir = "none"
  for path, value in settings.items():
    config_lib.update(c, path.replace("__", "."), value)
  return c
