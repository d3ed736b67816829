"""Which process this is, and that all hold the same."""

import os
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runtime.rendezvous_test import call, free_port, together
from vae_jax import config as config_lib
from vae_jax.config import ConfigError
from vae_jax.runtime import devices, distributed


@pytest.fixture
def nowhere(monkeypatch):
  """No cluster."""
  for name in list(os.environ):
    if name.startswith(("SLURM", "OMPI", "KUBERNETES", "TPU", "JOB_")):
      monkeypatch.delenv(name)


def test_without_flags_or_cluster_there_is_one_process(nowhere):
  assert distributed._place(None, None, None) == ("", 1, 0, None)


def test_flags_say_it(nowhere):
  given = ("10.0.0.1:8476", 4, 3)
  assert distributed._place(*given) == (*given, None)


@pytest.mark.parametrize(
  "given, said",
  [
    (("h:1", 2, None), "--process_id must be given too"),
    ((None, 2, 0), "--coordinator must be given too"),
    (("h:1", None, None), "--num_processes, --process_id must be given too"),
    (("h:1", 2, 2), "from 0 to 1"),
    (("h:1", 2, -1), "from 0 to 1"),
  ],
)
def test_flags_that_do_not_go_together(nowhere, given, said):
  with pytest.raises(ConfigError, match=said):
    distributed._place(*given)


def test_slurm_says_it(nowhere, monkeypatch):
  for name, value in {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "node[007-010]",
    "SLURM_NTASKS": "16",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
  }.items():
    monkeypatch.setenv(name, value)
  # JAX's own way from the number of the job to a port.
  port = 4097 % 2**12 + 65535 - 2**12 + 1
  assert distributed._place(None, None, None) == (f"node007:{port}", 16, 5, [1])


def test_open_mpi_says_it(nowhere, monkeypatch):
  uri = "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"
  monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", uri)
  monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "8")
  monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "7")
  monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "3")
  address, *rest = distributed._place(None, None, None)
  assert address.startswith("10.96.0.1:") and rest == [8, 7, [3]]


def test_a_lone_pod_is_no_cluster(nowhere, monkeypatch):
  monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
  assert distributed._place(None, None, None) == ("", 1, 0, None)


def test_facts_that_differ_are_shown_to_all(monkeypatch):
  port = free_port()
  three = together([lambda i=i: call(port, i, 3) for i in range(3)])
  facts = [
    {"seed": 0, "same": [1, 2]},
    {"seed": 7, "same": [1, 2]},
    {"same": 3},
  ]

  def agree(peers):
    # Each thread is a process of its own.
    given = peers.gather("facts", facts[peers.index])
    return distributed.differences(given, peers.names)

  found = together([lambda p=p: agree(p) for p in three])
  names = three[0].names
  assert (
    found[0]
    == found[1]
    == found[2]
    == [
      f"seed is 7 in {names[1]}, 0 in {names[0]}",
      f"same is 3 in {names[2]}, [1, 2] in {names[0]}",
      f"seed is None in {names[2]}, 0 in {names[0]}",
    ]
  )
  for peers in three:
    peers.close()


def test_what_lies_on_one_machine_may_differ_and_nothing_else():
  facts = distributed.config_facts(config_lib.default())
  assert "config.seed" in facts and "config.train.steps_per_call" in facts
  assert "config.data.cache_dir" not in facts
  assert set(config_lib.flatten(config_lib.default())) - {
    path.removeprefix("config.") for path in facts
  } == set(config_lib.MACHINE_FIELDS)


def test_alone_all_of_it_is_free():
  assert distributed.from_lead("x", 5) == 5
  assert distributed.lead_first(lambda: 6, "y") == 6
  distributed.barrier("z")
  distributed.agree("w", {"a": 1})
  with distributed.alone() as mine:
    assert mine


def test_a_sum_of_bits_keeps_every_bit():
  """Of the one value that counts, whatever the other devices hold."""
  bits = np.array(
    [0x00000000, 0x80000000, 0x00000001, 0x7F800000, 0xFF800000, 0x7FC00123],
    np.uint32,
  )
  for dtype in (jnp.float32, jnp.int32, jnp.bfloat16, jnp.float16, jnp.uint8):
    size = 4 // jnp.dtype(dtype).itemsize
    value = bits.view(np.uint8).view(jnp.dtype(dtype))
    assert len(value) == size * len(bits)
    others = np.stack([value, *[np.ones_like(value)] * 7])
    run = devices.pmap(
      lambda v: devices._sum_of_bits(v, devices.axis_index() == 0)
    )
    got = np.asarray(run(others))
    for device in range(8):
      assert got[device].tobytes() == value.tobytes(), dtype
  truth = np.array([[True, False]] + [[True, True]] * 7)
  got = devices.pmap(
    lambda v: devices._sum_of_bits(v, devices.axis_index() == 0)
  )(truth)
  np.testing.assert_array_equal(got, [[True, False]] * 8)


def test_devices_of_a_process_are_neighbours_on_the_axis(monkeypatch):
  """pmap wants it so, while on some TPU pods they are not."""
  scattered = [
    mock.Mock(spec=jax.Device, id=i, process_index=process)
    for i, process in enumerate((0, 1, 1, 0, 0, 1))
  ]
  monkeypatch.setattr(jax, "devices", lambda: scattered)
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  assert [d.id for d in devices.devices()] == [0, 3, 4, 1, 2, 5]
  np.testing.assert_array_equal(devices.positions(), [3, 4, 5])
