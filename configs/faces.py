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
  # Small enough for a mouth, 2.7 of squared error, to be worth its nats.
  c.model.likelihood.name = "gaussian"
  c.model.likelihood.args.sigma = 0.1
  c.model.latent_dim = 128
  # Adam takes ten times as many images to tell a smile.
  c.optim.optimizer.name = "muon"
  c.optim.learning_rate = 1e-2
  c.optim.schedule.name = "cosine"
  c.train.num_epochs = 8.0
  c.train.batch_size = 32
  c.train.steps_per_call = 10
  return c
