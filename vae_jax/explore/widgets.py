"""Parts of the page that Gradio has almost as we want them."""

import gradio as gr


class Slider(gr.Slider):
  """A slider whose number box may be empty for a moment."""

  def get_block_name(self) -> str:
    """Returns the name that the browser knows it by."""
    return "slider"

  def preprocess(self, payload: float | int | None) -> float | int:
    """Returns the value, 0 for an empty box."""
    return super().preprocess(0 if payload is None else payload)
