"""The IWAE paper's model of digits: 784-200-200-50, tanh, dynamic MNIST.

Command:   python -m vae_jax.main --config=configs/iwae_mnist.py
           python -m vae_jax.main --config=configs/iwae_mnist.py:short
           and with --config.objective.name=elbo, or
           --config.objective.args.num_samples=5
Hardware:  2 CPU cores; an accelerator for the 3,280 epochs.
Time:      short about 11 minutes, in full about 2 days; not measured
Expect:    test negative log-likelihood of 5,000 draws in full, in the paper
           (Burda et al., arXiv 1509.00519, table 1): 84.78 nats with 50 draws,
           85.54 with 5, 86.76 with the ELBO; not measured here

In full, stage i = 0..7 takes 3^i epochs at a learning rate of
10^(-3 - i / 7); `:short` has the first three stages, 13 epochs, over the same
range of rates. The paper sums gradients over a batch of 20: Adam's epsilon of
1e-4 there is 5e-6 here. Unlike the paper's code, each epoch has an order of its
own, and Adam's second moment starts from zero.
"""

from vae_jax import config

_STAGES = {"full": 8, "short": 3}


def get_config(variant="full"):
  if variant not in _STAGES:
    raise config.ConfigError(
      f"configs/iwae_mnist.py has no variant {variant!r}; allowed are "
      f"{', '.join(_STAGES)}."
    )
  stages = _STAGES[variant]
  c = config.default()
  c.data.name = "mnist"
  c.data.image_shape = (28, 28, 1)
  c.data.train_split = "train[:59600]"
  c.data.validation_split = "train[59600:]"
  c.data.binarization = "dynamic"
  for net in (c.model.encoder, c.model.decoder):
    net.name = "mlp"
    net.args.hidden = (200, 200)
    net.args.activation = "tanh"
  c.model.latent_dim = 50
  c.model.init = "glorot"
  # Of 50 draws, unless told otherwise; without arguments here, so that another
  # objective can be named.
  c.objective.name = "iwae"
  c.optim.optimizer.args.eps = 5e-6
  c.optim.schedule.name = "stages"
  c.optim.schedule.args.count = stages
  c.train.num_epochs = float(sum(3**i for i in range(stages)))
  c.train.batch_size = 20
  c.train.steps_per_call = 500
  c.train.log_every_steps = 500
  c.checkpoint.every_steps = 10_000
  return c
