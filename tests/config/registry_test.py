"""Names in a config select functions and classes; arguments fit them."""

import pytest

from vae_jax import config as config_lib
from vae_jax.config import registry
from vae_jax.models import decoders, encoders, likelihoods, posteriors, priors

NAMES = {
  encoders: "conv lecture_celeba lecture_mnist mlp resnet",
  decoders: "conv lecture_celeba lecture_celeba_upsample lecture_mnist mlp "
  "resnet",
  posteriors: "deterministic diagonal_normal iaf",
  priors: "flow gaussian_mixture standard_normal vamp",
  likelihoods: "bernoulli categorical256 continuous_bernoulli "
  "discretized_logistic discretized_logistic_mixture gaussian "
  "gaussian_learned gaussian_optimal laplace",
}


@pytest.mark.parametrize("module", NAMES, ids=lambda m: m.__name__)
def test_a_module_offers_its_classes_by_snake_case_names(module):
  assert sorted(registry.public_values(module)) == NAMES[module].split()
  for name in NAMES[module].split():
    cls = registry.resolve("model.part", name, [module])
    assert cls.__module__ == module.__name__
    assert cls.__name__ == "".join(w.capitalize() for w in name.split("_"))


@pytest.mark.parametrize(
  "name, message",
  [
    ("vanp", "is 'vanp'; allowed are flow, .*, or a dotted .* mean vamp?"),
    ("Vamp", "is 'Vamp'; allowed are flow, gaussian_mixture"),
    ("no_such_module.Net", "no_such_module cannot be imported"),
    ("vae_jax.models.priors.Vanp", "vae_jax.models.priors has no Vanp"),
  ],
)
def test_unknown_names_are_refused(name, message):
  with pytest.raises(config_lib.ConfigError, match=message) as error:
    registry.resolve("model.prior", name, [priors])
  assert "config.model.prior.name" in str(error.value)


def test_a_dotted_path_selects_by_either_spelling(monkeypatch, tmp_path):
  (tmp_path / "dotted_nets.py").write_text(
    "class MyNet:\n  pass\n\n\nclass other_net:\n  pass\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  for name, expected in (
    ("MyNet", "MyNet"),
    ("my_net", "MyNet"),
    ("other_net", "other_net"),
  ):
    cls = registry.resolve("model.encoder", f"dotted_nets.{name}", [encoders])
    assert cls.__name__ == expected
  old = registry.resolve("model.prior", "vae_jax.models.priors.vamp", [priors])
  assert old is priors.Vamp


def test_arguments_are_checked_against_the_signature():
  def loss(vae, batch, *, beta=1.0, kind="a"):
    del vae, batch, beta, kind

  known = registry.keyword_arguments(loss)
  c = config_lib.default()
  c.objective.args.beta = 2
  args = registry.check_arguments("objective", "loss", c.objective.args, known)
  assert args == {"beta": 2}
  for key, value, said in (
    ("bta", 2, "takes beta, kind"),
    ("beta", "two", "float"),
    ("kind", 3, "str"),
    ("beta", True, "float"),
  ):
    c = config_lib.default()
    c.objective.args[key] = value
    with pytest.raises(config_lib.ConfigError, match=said):
      registry.check_arguments("objective", "loss", c.objective.args, known)
