"""The lecture's VAE of faces: 128 x 128 CelebA, 200 latents, squared error.

Command:   python -m vae_jax.main --config=configs/lecture_celeba.py
Hardware:  one GPU.
Time:      not measured
Expect:    training squared error + KL of about 568 (421 + 146) after 50
           epochs, as in the lecture (Raschka, STAT 453, L17); not measured here

Unlike in the lecture, BatchNorm is over the global batch and dropout is off in
evaluation, which makes reconstructions and samples steadier.
"""

from vae_jax import config


def get_config():
  c = config.default()
  c.seed = 123
  c.data.name = "celeb_a"
  c.data.crop = 128
  c.data.image_shape = (128, 128, 3)
  c.model.encoder.name = "lecture_celeba"
  c.model.decoder.name = "lecture_celeba"
  c.model.likelihood.name = "gaussian"
  c.model.likelihood.args.sigma = 0.5**0.5
  c.model.latent_dim = 200
  c.model.init = "torch"
  c.optim.learning_rate = 5e-4
  c.train.batch_size = 256
  c.train.num_epochs = 50.0
  c.train.steps_per_call = 10
  c.eval.batch_size = 256
  return c
