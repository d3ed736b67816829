"""A VAE of drawn faces, a data set that the package draws.

Command:   python -m vae_jax.main --config=configs/faces.py
Hardware:  2 CPU cores.
Time:      9 minutes, one of them to draw the data set
Expect:    test neg_elbo -11,448 nats, a density (rate 163), squared error
           18.4, by --mode=evaluate; recognizable faces in figures/samples.png;
           a direction of smiles, by --mode=edit --attribute=Smiling

`configs/faces.py:compact` has a third of the latents and wider noise: its codes
contain the face without the mouth. Time: 6.4 minutes; expect test neg_elbo
203.6 nats (rate 50.9), squared error 38.5, by --mode=evaluate.
"""

from vae_jax import config


def get_config(variant="full"):
  if variant not in ("full", "compact"):
    raise config.ConfigError(
      f"configs/faces.py has no variant {variant!r}; allowed are full, compact."
    )
  compact = variant == "compact"
  c = config.default()
  c.data.name = "synthetic_faces"
  c.data.image_shape = (64, 64, 3)
  c.model.encoder.name = "conv"
  c.model.decoder.name = "conv"
  # Wider than the best fit, 0.05, so that draws from the prior decode to faces,
  # and narrow enough for a smile, 2.7 of squared error, to be encoded.
  c.model.likelihood.name = "gaussian"
  c.model.likelihood.args.sigma = 0.4 if compact else 0.15
  c.model.latent_dim = 32 if compact else 96
  # Muon learns small details sooner than Adam.
  c.optim.optimizer.name = "adam" if compact else "muon"
  c.optim.learning_rate = 2e-3 if compact else 1e-2
  c.optim.schedule.name = "cosine"
  c.train.num_epochs = 8.0 if compact else 9.0
  c.train.batch_size = 64 if compact else 32
  c.train.steps_per_call = 10
  return c
