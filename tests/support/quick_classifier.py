"""A judge of edits that is small and hardly trained."""

from vae_jax.evaluate import attribute_classifier, train_classifier


def patch(monkeypatch, images=64):
  """Makes judges that are trained from now on quick to train."""
  monkeypatch.setattr(attribute_classifier, "_CHANNELS", (8, 16))
  monkeypatch.setattr(attribute_classifier, "_CHUNK", 32)
  monkeypatch.setattr(train_classifier, "_BATCH", 32)
  monkeypatch.setattr(train_classifier, "_IMAGES", images)
