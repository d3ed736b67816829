"""A VAE of drawn faces, on data that comes with the package.

Command:   python -m vae_jax.main --config=configs/faces.py
Hardware:  2 CPU cores.
Time:      6.4 minutes, of which one draws the data set
Expect:    test neg_elbo 203.6 nats (rate 50.9), squared error 38.5, by
           --mode=evaluate; recognisable faces in figures/samples.png
"""

from vae_jax import config


def get_config():
  c = config.default()
  c.data.name = "synthetic_faces"
  c.data.image_shape = (64, 64, 3)
  c.model.encoder.name = "conv"
  c.model.decoder.name = "conv"
  # Wider noise than the best fit, 0.05: the code then tells a face and not its
  # texture, and draws from the prior decode to faces.
  c.model.likelihood.name = "gaussian"
  c.model.likelihood.args.sigma = 0.4
  c.model.latent_dim = 32
  c.optim.learning_rate = 2e-3
  c.optim.schedule.name = "cosine"
  c.train.num_epochs = 8.0
  c.train.batch_size = 64
  c.train.steps_per_call = 10
  return c
