"""A VAE of digits: MLP 784-400-20, dynamically binarized MNIST.

Command:   python -m vae_jax.main --config=configs/mnist.py
Hardware:  2 CPU cores.
Time:      45 s, once MNIST is prepared
Expect:    test neg_elbo 99.6 nats (rate 26.8), 0.183 bits per pixel, by
           --mode=evaluate
"""

from vae_jax import config


def get_config():
  c = config.default()
  c.data.name = "mnist"
  c.data.image_shape = (28, 28, 1)
  c.data.binarization = "dynamic"
  c.model.encoder.name = "mlp"
  c.model.encoder.args.hidden = (400,)
  c.model.decoder.name = "mlp"
  c.model.decoder.args.hidden = (400,)
  c.model.latent_dim = 20
  c.optim.learning_rate = 2e-3
  c.optim.schedule.name = "cosine"
  c.train.num_epochs = 20.0
  c.checkpoint.every_steps = 2000
  c.train.validate_every_steps = 2000
  return c
