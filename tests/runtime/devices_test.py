"""The order of devices on the axis."""

from unittest import mock

import jax
import numpy as np

from vae_jax.runtime import devices


def test_devices_of_a_process_are_neighbors_on_the_axis(monkeypatch):
  """pmap needs that, but on some TPU pods they are not."""
  scattered = [
    mock.Mock(spec=jax.Device, id=i, process_index=process)
    for i, process in enumerate((0, 1, 1, 0, 0, 1))
  ]
  monkeypatch.setattr(jax, "devices", lambda: scattered)
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  assert [d.id for d in devices.devices()] == [0, 3, 4, 1, 2, 5]
  np.testing.assert_array_equal(devices.positions(), [3, 4, 5])
