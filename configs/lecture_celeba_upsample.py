"""The lecture's VAE of faces with repeated pixels and plain convolutions.

Command:   python -m vae_jax.main --config=configs/lecture_celeba_upsample.py
Hardware:  one GPU.
Time:      not measured
Expect:    training squared error + KL of about 571 (425 + 144) after 50
           epochs, as in the lecture (Raschka, STAT 453, L17); not measured here

It has as many parameters as configs/lecture_celeba.py, for a fair comparison.
"""

import importlib.util
import pathlib


def get_config():
  # By path, because the folder of configs is not a package.
  path = pathlib.Path(__file__).with_name("lecture_celeba.py")
  spec = importlib.util.spec_from_file_location(path.stem, path)
  lecture_celeba = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(lecture_celeba)
  c = lecture_celeba.get_config()
  c.model.decoder.name = "lecture_celeba_upsample"
  return c
