"""A judge of edits that is small and hardly trained."""

from vae_jax import judge, judge_training


def patch(monkeypatch, images=64):
  """Makes judges that are trained from now on quick to train."""
  monkeypatch.setattr(judge, "_CHANNELS", (8, 16))
  monkeypatch.setattr(judge, "_CHUNK", 32)
  monkeypatch.setattr(judge_training, "_BATCH", 32)
  monkeypatch.setattr(judge_training, "_IMAGES", images)
