"""Trainings on several devices: a batch is laid over them, and XLA adds up the gradients."""

import functools
from typing import TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_AXIS = "batch"

Tree = TypeVar("Tree")


def on_each_device(state: Tree) -> Tree:
    """Lays a copy of a state on each device."""
    return jax.device_put(state, NamedSharding(_all_devices(), PartitionSpec()))


def over_devices(batch: Tree) -> Tree:
    """Lays a batch, the first axis of each leaf, over all devices.

    Raises:
      ValueError: the devices' shares would not be alike.
    """
    count, sizes = jax.device_count(), {len(leaf) for leaf in jax.tree.leaves(batch)}
    if any(size % count for size in sizes):
        found = ", ".join(map(str, sorted(sizes)))
        raise ValueError(f"expected a batch that {count} devices can share out, found {found}")
    return jax.device_put(batch, NamedSharding(_all_devices(), PartitionSpec(_AXIS)))


@functools.cache
def _all_devices() -> Mesh:
    return jax.make_mesh((jax.device_count(),), (_AXIS,), (AxisType.Auto,))
