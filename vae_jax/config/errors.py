"""The error of a wrong setting, and the gist of other errors."""


class ConfigError(ValueError):
  """A wrong setting: one sentence with the field, its value and what is
  allowed."""


def reason(error: BaseException, *, limit: int = 200) -> str:
  """Returns an error's message, or its type's name, on one line of at most
  `limit` characters, for use within a sentence."""
  text = " ".join(str(error).split()) or type(error).__name__
  return text[:limit].rstrip(". ")
