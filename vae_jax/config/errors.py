"""The error of a wrong setting, and the gist of other errors."""


class ConfigError(ValueError):
  """A wrong setting: one sentence with the field, its value and what is
  allowed."""


def reason(error: BaseException, *, limit: int = 200) -> str:
  """Returns an error's message on one line, for use within a sentence.

  Args:
    error: the name of its type stands for an empty message.
    limit: characters, at most.
  """
  text = " ".join(str(error).split()) or type(error).__name__
  return text[:limit].rstrip(". ")
