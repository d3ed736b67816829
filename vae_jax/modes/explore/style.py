"""Theme and CSS of the page."""

from typing import Any

from vae_jax.modes.explore import markup


def theme() -> Any:
  """Returns a theme that loads no font from another server."""
  import gradio as gr

  return gr.themes.Soft(
    primary_hue="indigo",
    neutral_hue="slate",
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
    font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
  ).set(
    block_title_background_fill="none",
    block_title_background_fill_dark="none",
    block_title_padding="0",
    block_title_text_color="*body_text_color",
    block_title_text_color_dark="*body_text_color",
    block_title_text_weight="500",
    block_label_background_fill="none",
    block_label_background_fill_dark="none",
    block_label_text_color="*body_text_color",
    block_label_text_color_dark="*body_text_color",
    block_label_text_weight="500",
    # The border is the only edge of white on white.
    input_border_width="1px",
    input_border_color="*neutral_200",
    input_shadow="none",
    checkbox_border_width="1px",
    checkbox_border_color="*neutral_400",
    checkbox_label_border_width="1px",
    checkbox_label_border_color="*neutral_200",
    checkbox_label_shadow="none",
    button_border_width="1px",
    button_secondary_border_color="*neutral_200",
    button_secondary_shadow="none",
    button_primary_shadow="none",
  )


def css(shape: tuple[int, int, int]) -> str:
  """Returns the page's rules; pictures grow by whole multiples of pixels.

  Args:
    shape: Height, width and channels of the pictures.
  """
  return f"#board {{ {markup.sizes(shape)} }}\n{_RULES}"


_RULES = """
footer { display: none !important; }
gradio-app .gradio-container {
  width: 100%;
  min-width: 0;
  max-width: 1280px !important;
  padding: 0 !important;
  margin: 0 auto;
  /* Gradio hides the overflow, which disables sticky elements. */
  overflow: visible;
}
gradio-app .main.fillable { padding: 14px 24px 32px !important; }
.gradio-container main > .column { gap: 6px; }
.gradio-container .html-container { padding: 0 !important; }
.gradio-container .prose { min-width: 0; max-width: none; }

#title h1 {
  font-size: 1.35rem;
  font-weight: 650;
  letter-spacing: -0.01em;
  margin: 0;
}
#title h1 em { font-style: normal; color: var(--color-accent); }
#title p { margin: 2px 0 0; color: var(--body-text-color-subdued); }

#board {
  display: grid;
  grid-template-columns: minmax(0, 1fr) minmax(0, 1fr);
  gap: 20px;
  align-items: start;
}
#left, #controls, #stage { gap: 10px; min-width: 0 !important; }
#left { align-self: stretch; }
/* Otherwise they grow with the sliders, and nothing is sticky. */
#left > * { flex-grow: 0 !important; }
#controls { padding-top: 10px; }

#stage {
  position: sticky;
  top: 0;
  z-index: 5;
  padding: 10px 0 8px;
  background: var(--body-background-fill);
}
#pictures { gap: 16px; flex-wrap: nowrap; align-items: flex-start; }
#pictures > .block {
  flex: 0 0 auto;
  width: max-content;
  min-width: 0 !important;
}
#reference figure + figure { margin-top: 10px; }
#board figure { margin: 0; width: max-content; }
#board figure img, #board figure .none {
  display: block;
  margin: 0;
  border-radius: 6px;
  box-shadow: 0 0 0 1px var(--border-color-primary);
  image-rendering: pixelated;
  background: var(--background-fill-secondary);
}
#edited img { width: var(--big); }
#reference img, #reference .none { width: var(--small); }
#pair img, #pair .none { width: var(--tiny); }
#board figure .none {
  aspect-ratio: var(--shape);
  display: grid;
  place-items: center;
  padding: 8px;
  text-align: center;
  font-size: 0.75rem;
  color: var(--body-text-color-subdued);
}
#board figcaption {
  display: flex;
  flex-wrap: wrap;
  justify-content: space-between;
  align-items: baseline;
  gap: 0 8px;
  width: 0;
  min-width: 100%;
  margin-top: 4px;
  font-size: 0.78rem;
  line-height: 1.4;
  color: var(--body-text-color-subdued);
}
#board figcaption .links { display: flex; gap: 10px; }
#board figcaption b { color: var(--body-text-color); font-weight: 600; }
#board figcaption a {
  color: var(--link-text-color);
  padding: 0;
  text-decoration: none;
  white-space: nowrap;
}
#board figcaption a:hover { text-decoration: underline; }
#quick { gap: 8px; }
#quick button, #paging button { flex: 0 1 auto; min-width: 0; }
#message:not(:has(p)) { display: none; }
#message p {
  margin: 0;
  padding: 8px 12px;
  border-radius: 6px;
  color: var(--error-text-color);
  background: var(--error-background-fill);
  border: 1px solid var(--error-border-color);
}

.gradio-container #controls .block.gr-accordion, #kind fieldset {
  border: 1px solid var(--border-color-primary) !important;
  border-radius: var(--block-radius);
}
#kind .form { border: none; box-shadow: none; }
#kind fieldset { padding: 10px 12px; }
#kind fieldset .wrap { flex-wrap: nowrap; gap: 6px; }
#kind fieldset .wrap label { padding: 4px 10px; }
#kind .info-text { margin: 0 0 6px; }

.sliders .form {
  gap: 0;
  padding: 6px 0;
  background: var(--block-background-fill);
  border-radius: var(--block-radius);
  border: 1px solid var(--border-color-primary);
  box-shadow: none;
}
.gr-accordion .sliders .form { border: none; padding: 0; }
.sliders .block { padding: 2px 12px !important; border: none !important; }
.gr-accordion .sliders .block { padding: 2px 0 !important; }
.sliders .block > .wrap:last-child {
  display: grid;
  grid-template-columns: minmax(7rem, 10rem) minmax(0, 1fr) 4rem;
  align-items: center;
  gap: 0 12px;
}
.sliders .head { display: contents; }
.sliders .head label { order: 1; min-width: 0; margin: 0; }
.sliders .head label span {
  margin: 0;
  font-size: 0.86rem;
  overflow-wrap: anywhere;
}
.sliders .slider_input_container { order: 2; min-width: 0; margin: 0; }
.sliders .slider_input_container input { min-width: 0; }
.sliders .min_value, .sliders .max_value { display: none; }
.sliders .tab-like-container { order: 3; margin: 0; }
.sliders .reset-button { display: none; }
.sliders input[type="number"] {
  width: 100%;
  text-align: right;
  font-variant-numeric: tabular-nums;
}
.sliders input[type="range"] { height: 24px; }
/* The middle is marked, because 0 changes nothing. */
.sliders input[type="range"]::-webkit-slider-runnable-track {
  background: linear-gradient(
      var(--body-text-color-subdued), var(--body-text-color-subdued)
    ) center / 2px 100% no-repeat,
    var(--border-color-primary);
}
.sliders input[type="range"]::-moz-range-progress { background: none; }
.sliders input[type="range"]::-moz-range-track {
  background: var(--border-color-primary);
}
.sliders input[type="range"]::-webkit-slider-thumb {
  background: var(--color-accent);
}
.sliders input[type="range"]::-moz-range-thumb {
  background: var(--color-accent);
}

#sources { min-width: 0; gap: 0; }
#sources .tab-wrapper { margin-bottom: 0; }
#sources .tab-container button { padding: 0 12px; }
#sources .tabitem { padding: 12px 0 0; border: none; }
#sources .tabitem > .column { gap: 10px; }
#thumbnails .prose {
  display: grid;
  grid-template-columns: repeat(auto-fill, var(--thumb));
  gap: 8px;
}
#thumbnails button {
  margin: 0;
  padding: 0;
  border: 0;
  border-radius: 6px;
  overflow: hidden;
  line-height: 0;
  cursor: pointer;
  background: none;
}
#thumbnails button:hover, #thumbnails button:focus-visible {
  outline: 2px solid var(--color-accent);
  outline-offset: 2px;
}
#thumbnails img { width: var(--thumb); margin: 0; image-rendering: pixelated; }
#paging { align-items: center; gap: 8px; flex-wrap: wrap; }
#paging button, #quick button { white-space: nowrap; }
#paging .form {
  flex: 0 1 auto;
  min-width: 0 !important;
  border: none;
  box-shadow: none;
  background: none;
}
#number { padding: 0; border: none; background: none; }
#number label {
  display: flex;
  align-items: center;
  gap: 8px;
  white-space: nowrap;
}
#number label span { margin: 0; font-size: 0.86rem; }
#number input { width: 6rem; padding: 4px 8px; }

#pair .prose { display: flex; gap: 16px; }
#map { position: relative; gap: 0; }
#map-picture { width: min(100%, 560px); }
#map-picture img {
  width: 100%;
  margin: 0;
  cursor: crosshair;
  border-radius: 6px;
  box-shadow: 0 0 0 1px var(--border-color-primary);
}
#map-picture p {
  margin: 6px 0 0;
  font-size: 0.78rem;
  color: var(--body-text-color-subdued);
}
#map-picture ul {
  display: flex;
  flex-wrap: wrap;
  gap: 4px 14px;
  margin: 4px 0 0;
  padding: 0;
  list-style: none;
  font-size: 0.78rem;
}
#map-picture li i {
  display: inline-block;
  width: 9px;
  height: 9px;
  border-radius: 50%;
  margin-right: 5px;
}
#marker {
  position: absolute;
  inset: 0 auto auto 0;
  width: min(100%, 560px);
  pointer-events: none;
}
#marker div { position: relative; }
#marker i {
  position: absolute;
  width: 14px;
  height: 14px;
  margin: -7px 0 0 -7px;
  border: 2px solid #fff;
  border-radius: 50%;
  background: #e11d48;
  box-shadow: 0 0 0 1px #0008;
}
#photo .wrap { font-size: 0.9rem; line-height: 1.4; }
#vector { align-self: flex-start; width: auto; }
#message p { font-size: 0.86rem; }

@media (max-width: 800px) {
  gradio-app .main.fillable { padding: 10px 4px 24px !important; }
  #board {
    display: flex;
    flex-direction: column;
    gap: 14px;
    align-items: stretch;
  }
  #left { display: contents; }
  #stage, #quick { order: 1; }
  #controls { order: 2; padding-top: 0; }
  #sources { order: 3; }
  #edited img { width: var(--phone); }
  #reference img, #reference .none { width: var(--tiny); }
  #title p { font-size: 0.85rem; }
  #kind fieldset .wrap { flex-wrap: wrap; }
  .sliders .block > .wrap:last-child { grid-template-columns: 1fr 4rem; }
  .sliders .slider_input_container { order: 4; grid-column: 1 / -1; }
  .sliders input[type="range"] { height: 30px; }
  #quick button { padding: 6px 8px; }
}
@media (max-width: 800px) and (min-resolution: 1.5dppx) {
  #reference img, #reference .none { width: var(--tiny-fine); }
}
"""
