"""The lecture's plain autoencoder of digits: the same net, a code of two.

Command:   python -m vae_jax.main --config=configs/lecture_mnist_autoencoder.py
Hardware:  2 CPU cores.
Time:      not measured
Expect:    training squared error of about 31 (0.039 a pixel) after 20 epochs,
           as in the lecture (Raschka, STAT 453, L16); not measured here
"""

from vae_jax import config


def get_config():
  c = config.default()
  c.seed = 123
  c.data.name = "mnist"
  c.data.image_shape = (28, 28, 1)
  c.data.train_split = "train"
  c.data.validation_split = "test"
  c.data.test_split = "test"
  c.model.encoder.name = "lecture_mnist"
  c.model.decoder.name = "lecture_mnist"
  c.model.posterior.name = "deterministic"
  c.model.likelihood.name = "gaussian"
  c.model.likelihood.args.sigma = 0.5**0.5
  c.model.latent_dim = 2
  c.model.init = "torch"
  c.objective.name = "autoencoder"
  c.optim.learning_rate = 5e-4
  c.train.batch_size = 32
  c.train.num_steps = 20 * 1875
  c.train.validate_every_steps = 5 * 1875
  return c
