"""A VAE of faces: 64 x 64 CelebA, residual networks, learned noise.

Command:   python -m vae_jax.main --config=configs/celeba.py
Hardware:  one GPU or a TPU slice.
Time:      not measured
Expect:    not measured

The center 148 x 148 pixels are resized, as is common for this size. Prepare
CelebA through TFDS, or set --config.data.manual_dir to a folder with its five
official files; see vae_jax/data/README.md.
"""

from vae_jax import config


def get_config():
  c = config.default()
  c.data.name = "celeb_a"
  c.data.crop = 148
  c.data.resize = 64
  c.data.image_shape = (64, 64, 3)
  c.model.encoder.name = "resnet"
  c.model.decoder.name = "resnet"
  c.model.likelihood.name = "gaussian_optimal"
  c.model.latent_dim = 128
  c.model.dtype = "bfloat16"
  c.optim.learning_rate = 3e-4
  c.optim.schedule.name = "cosine"
  c.optim.warmup_steps = 1000
  c.optim.clip_norm = 1000.0
  c.optim.ema_decay = 0.999
  c.train.batch_size = 256
  c.train.num_epochs = 50.0
  c.train.steps_per_call = 20
  c.checkpoint.every_steps = 2000
  return c
