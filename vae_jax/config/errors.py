"""The error of a wrong setting, and the gist of other errors."""


class ConfigError(ValueError):
  """A wrong setting: one sentence with the field, its value and what is
  allowed."""


def reason(error: BaseException, *, limit: int = 200) -> str:
  """Returns the first line of an error's message, for use in a sentence.

  Args:
    error: its type's name stands for an empty message.
    limit: characters, at most.
  """
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0][:limit].rstrip(". ")
