"""Programs that are divided among devices: their maps, and the sums and exchanges between devices.

A sum over devices is a sum like any other: its terms are gathered and added in the order of the devices' indices, or in
whatever order the arithmetic asks for, so that all devices have the same result and it is the one of a single device.
What is only exchanged is exact. The same holds along an axis that `vmap` names.

Events are counted on every device, and added up where the `shard_map` ends: work that all devices do alike is counted
on each. Inside of a `shard_map` of the caller's own the counts are those of the device. The random bits of stochastic
rounding differ between devices that hold different pieces of a value; what all devices hold in common is rounded alike
on all. Without `check_vma`, as in `pmap`, only the results of sums over devices are known to be common.

Operations on arrays whose division is part of their type (meshes with axes of type `Explicit`) are left to JAX's own
rules, which refuse some of the steps of a sum: divide by `shard_map`, or along axes of type `Auto`.
"""

from dataclasses import replace
from typing import Any

import jax
from jax import lax
from jax.sharding import PartitionSpec

from precond_lab.arithmetic import meshes, sums
from precond_lab.arithmetic.machine import Machine, State, is_float
from precond_lab.interpreter import Operation, Walk


def shard_map(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Walk the program of one device on all of them; the draws go on alike, events are added up in the end."""
    params = operation.params
    along = tuple(axis for axis in params["mesh"].axis_names if axis in params["newly_manual_axes"])

    def on_device(pieces: list, state: State) -> tuple[list, State]:
        before, none = state.events, jax.tree.map(lambda count: count * 0, state.events)
        results, state = walk(params["jaxpr"], pieces, state._replace(events=meshes.divided(none)))
        if state.draws is not None:
            state = state._replace(draws=meshes.agreed(state.draws, along))
        totals = jax.tree.map(lambda old, new: old + lax.psum(new, along), before, state.events)
        return results, state._replace(events=totals)

    everywhere = PartitionSpec()
    return jax.shard_map(
        on_device,
        mesh=params["mesh"],
        in_specs=(list(params["in_specs"]), everywhere),
        out_specs=(list(params["out_specs"]), everywhere),
        axis_names=set(along),
        check_vma=params["check_vma"],
    )(operands, state)


def psum(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Gather the terms of all devices, and add them on each."""
    if not is_float(operation.outputs[0].dtype):
        return operation.bind(*operands), state
    (x,), params = operands, operation.params
    named = [axis for axis in params["axes"] if not isinstance(axis, int)]
    positions = [axis for axis in params["axes"] if isinstance(axis, int)]
    to = "varying" if operation.name == "psum" else "invarying"
    for axis in reversed(named):
        x = lax.all_gather(x, axis, axis_index_groups=params.get("axis_index_groups"), to=to)
    if state.draws is not None and (along := [axis for axis in meshes.axes() if axis in named]):
        state = state._replace(draws=meshes.agreed(state.draws, along))
    machine = replace(machine, together=machine.together | set(named))
    summed = tuple(range(len(named))) + tuple(axis + len(named) for axis in positions)
    return _sum(machine, operation, x, summed, state, walk)


def reduce_scatter(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """Send every device its terms, to be added there."""
    if not is_float(operation.outputs[0].dtype):
        return operation.bind(*operands), state
    (x,), params = operands, operation.params
    split, count = params["scatter_dimension"], params["axis_size"]
    if params["tiled"]:
        x = x.reshape(*x.shape[:split], count, x.shape[split] // count, *x.shape[split + 1 :])
    terms = lax.all_to_all(x, params["axis_name"], split, 0, axis_index_groups=params["axis_index_groups"])
    return _sum(machine, operation, terms, (0,), state, walk)


def _sum(
    machine: Machine, operation: Operation, terms: jax.Array, axes: tuple[int, ...], state: State, walk: Walk
) -> tuple[list, State]:
    """The sum that `reduce_sum` is."""
    shape = jax.ShapeDtypeStruct(terms.shape, operation.inputs[0].dtype)
    operation = operation._replace(name="reduce_sum", params={"axes": axes}, inputs=(shape,))
    return sums.reduce_sum(machine, operation, [terms], state, walk)


def _exchange(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    return operation.bind(*operands), state


RULES: dict[str, Any] = {
    "shard_map": shard_map,
    "psum": psum,
    "psum_invariant": psum,
    "reduce_scatter": reduce_scatter,
    **dict.fromkeys(
        (
            "all_gather",
            "all_gather_invariant",
            "all_gather_reduced",
            "all_to_all",
            "axis_index",
            "pbroadcast",
            "pmax",
            "pmin",
            "ppermute",
        ),
        _exchange,
    ),
}
"""The rules of primitives that concern several devices, whatever they work on."""
