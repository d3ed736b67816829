"""The lecture's VAE of digits: convolutions, two latents, squared error.

Command:   python -m vae_jax.main --config=configs/lecture_mnist.py
Hardware:  2 CPU cores.
Time:      about 45 minutes
Expect:    training squared error + KL of 36.7 (31.9 + 4.8) after 50 epochs,
           where the lecture (Raschka, STAT 453, L17) has 36.4 (31.3 + 5.1);
           on the test images 37.3 (32.4 + 4.9)

As in the lecture, all 60,000 images are for training. Validation, which only
selects the best checkpoint, is on the test images. With a Gaussian of variance
1/2 the distortion is the summed squared error plus 784/2 log pi.
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
  c.model.likelihood.name = "gaussian"
  c.model.likelihood.args.sigma = 0.5**0.5
  c.model.latent_dim = 2
  c.model.init = "torch"
  c.optim.learning_rate = 5e-4
  c.train.batch_size = 256
  c.train.num_steps = 50 * 234
  c.train.steps_per_call = 20
  c.train.validate_every_steps = 5 * 234
  return c
