"""How the page looks."""

from typing import Any

from vae_jax.explore import markup


def theme() -> Any:
  """Returns a theme that needs no font from elsewhere."""
  import gradio as gr

  return gr.themes.Soft(
    primary_hue="indigo",
    neutral_hue="slate",
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
    font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
  )


def css(shape: tuple[int, int, int]) -> str:
  """Returns the page's rules; pictures grow by whole multiples of pixels.

  Args:
    shape: height, width and channels of the pictures.
  """
  return f"#board {{ {markup.sizes(shape)} }}\n{_RULES}"


_RULES = """
footer { display: none !important; }
gradio-app .gradio-container {
  max-width: 1320px !important;
  padding: 0 20px !important;
  margin: 0 auto;
}
gradio-app .gradio-container main { padding: 14px 0 32px; }
.gradio-container main > .column { gap: 12px; }

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

#stage {
  position: sticky;
  top: 0;
  z-index: 5;
  padding: 10px 0 8px;
  background: var(--body-background-fill);
}
#pictures { gap: 16px; flex-wrap: nowrap; align-items: flex-start; }
#pictures > div { flex: 0 0 auto !important; min-width: 0 !important; }
#reference .prose, #reference > div { display: block; }
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
#kept img, #kept .none { width: var(--tiny); }
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
  justify-content: space-between;
  align-items: baseline;
  gap: 8px;
  width: 0;
  min-width: 100%;
  margin-top: 4px;
  font-size: 0.78rem;
  line-height: 1.3;
  color: var(--body-text-color-subdued);
}
#board figcaption b { color: var(--body-text-color); font-weight: 600; }
#board figcaption a {
  color: var(--link-text-color);
  text-decoration: none;
  margin-left: 6px;
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

#kind fieldset { padding: 10px 12px; }
#kind fieldset .wrap { flex-wrap: nowrap; gap: 6px; }
#kind fieldset .wrap label { padding: 4px 10px; }
#kind .info-text { margin-bottom: 6px; }

.sliders .form { border: none; gap: 0; background: none; box-shadow: none; }
.sliders .block { padding: 3px 12px !important; border: none !important; }
.sliders .form {
  padding: 6px 0;
  background: var(--block-background-fill);
  border-radius: var(--block-radius);
  border: 1px solid var(--border-color-primary);
}
.sliders .block > .wrap:last-child {
  display: grid;
  grid-template-columns: minmax(7rem, 10rem) minmax(0, 1fr) 4rem;
  align-items: center;
  gap: 10px;
}
.sliders .head { display: contents; }
.sliders .head label { order: 1; min-width: 0; }
.sliders .head label span {
  margin: 0;
  font-size: 0.86rem;
  overflow-wrap: anywhere;
}
.sliders .slider_input_container { order: 2; margin: 0; }
.sliders .min_value, .sliders .max_value { display: none; }
.sliders .tab-like-container { order: 3; }
.sliders .reset-button { display: none; }
.sliders input[type="number"] { width: 100%; text-align: right; }
.sliders input[type="range"] { height: 26px; }

#sources { min-width: 0; }
#thumbnails > div, #thumbnails .prose {
  display: grid;
  grid-template-columns: repeat(auto-fill, var(--thumb));
  gap: 8px;
}
#thumbnails button {
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
#paging { align-items: flex-end; }

#kept > div, #kept .prose { display: flex; gap: 16px; }
#map { position: relative; gap: 0; }
#map-picture { width: min(100%, 480px); }
#map-picture img {
  width: 100%;
  margin: 0;
  cursor: crosshair;
  border-radius: 6px;
  box-shadow: 0 0 0 1px var(--border-color-primary);
}
#map-picture img.plane { image-rendering: pixelated; }
#map-picture p { margin: 6px 0 0; font-size: 0.78rem; color: var(--body-text-color-subdued); }
#map-picture ul { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 4px 0 0; padding: 0; list-style: none; font-size: 0.78rem; }
#map-picture li i { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 5px; }
#marker { position: absolute; inset: 0 auto auto 0; pointer-events: none; }

@media (max-width: 800px) {
  gradio-app .gradio-container { padding: 0 12px !important; }
  #board { display: flex; flex-direction: column; gap: 14px; align-items: stretch; }
  #left { display: contents; }
  #stage { order: 1; }
  #controls { order: 2; }
  #sources { order: 3; }
  #edited img { width: var(--phone); }
  #reference img, #reference .none { width: var(--tiny); }
  #title p { font-size: 0.85rem; }
}
@media (max-width: 800px) and (min-resolution: 1.5dppx) {
  #reference img, #reference .none { width: var(--tiny-fine); }
}
"""
