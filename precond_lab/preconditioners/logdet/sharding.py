r"""The direction u = X g of a chain that is divided among devices.

Every device holds an equal part of the chain, consecutive vertices in the order of a mesh's axis. What it lacks are the
b vertices before its own and the b after them: its neighbors send them (a halo exchange). Then it computes as in
:mod:`precond_lab.preconditioners.logdet.chunks`, with the same result bit for bit, under the same condition.

With stabilization the cuts of the halos are exchanged in every pass, and all devices go on until none drops an edge.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from precond_lab.preconditioners.logdet.band import Rule
from precond_lab.preconditioners.logdet.chunks import (
    Direction,
    check_pair,
    chunk_here,
    judged_to_fixed_point,
)
from precond_lab.preconditioners.logdet.projection import Form
from precond_lab.preconditioners.logdet.stabilization import Judgment, settled
from precond_lab.preconditioners.logdet.windows import (
    DIRECTION,
    Interpreter,
    Stages,
    closed,
    judge_window,
    project_window,
    reduce_window,
    stages_of,
    surround,
    sweep,
)


def direction_on_devices(
    H: jax.Array,
    g: jax.Array,
    mesh: Mesh,
    axis: str,
    *,
    chunk: int | None = None,
    through: Interpreter | None = None,
) -> jax.Array:
    """The direction of the projection, with nothing to guard it: ``apply(project(H), g)``.

    Args:
        H: ``[b+1, n]``, with a positive diagonal.
        g: ``[n]``.
        mesh: the devices.
        axis: of the mesh, along which the chain is divided. Its size need not divide n, but arrays that it does divide
            are not moved.
        chunk: as for :func:`direction_in_chunks`, on every device; None goes by the platform of the mesh.
        through: as for :func:`direction_in_chunks`.

    Returns:
        X g, ``[n]``, divided in the same way.

    Raises:
        ValueError: if the shapes do not fit, a device would have fewer than b vertices, or a chunk is not positive.
    """

    def local(shard: _Shard, H: jax.Array, g: jax.Array) -> jax.Array:
        return shard.sweep(
            stages_of(through, project_window, *DIRECTION),
            (shard.halo(H), shard.halo(g)),
            _chunk(chunk, H, mesh),
        )[0]

    return _divided(local, H, g, mesh, axis, PartitionSpec(axis))


def stabilized_on_devices(
    H: jax.Array,
    g: jax.Array,
    mesh: Mesh,
    axis: str,
    tolerance: jax.Array | float | None = None,
    *,
    rule: Rule = "one_sided",
    relative: bool = True,
    passes: jax.Array | int | None = None,
    form: Form = "pivots",
    chunk: int | None = None,
    through: Interpreter | None = None,
) -> Direction:
    """The direction after Algorithm 3: ``apply(iterate(H, tolerance).factor, g)``.

    Args:
        H: ``[b+1, n]``, with a positive diagonal.
        g: ``[n]``.
        mesh: as for :func:`direction_on_devices`.
        axis: as for :func:`direction_on_devices`.
        tolerance: as for :func:`iterate`.
        rule: as for :func:`iterate`.
        relative: as for :func:`iterate`.
        passes: as for :func:`iterate`.
        form: as for :func:`iterate`.
        chunk: as for :func:`direction_on_devices`.
        through: as for :func:`direction_in_chunks`.

    Returns:
        The direction ``[n]``, divided in the same way; the number of passes and whether the fixed point was reached,
        on every device.

    Raises:
        ValueError: as :func:`iterate` and :func:`direction_on_devices`.
    """
    H, g = check_pair(H, g)
    judgment = Judgment(rule, relative, form)
    scalar, limit = settled(H, tolerance, passes, rule, form)
    if H.shape[0] == 1:
        u = direction_on_devices(H, g, mesh, axis, chunk=chunk, through=through)
        return Direction(u, jnp.int32(0), jnp.bool(True))

    def local(shard: _Shard, H: jax.Array, g: jax.Array, scalar: jax.Array) -> tuple:
        H = shard.halo(H)
        judge = stages_of(through, partial(judge_window, judgment=judgment), scalars=(scalar,))
        stages = stages_of(through, partial(reduce_window, judgment=judgment), *DIRECTION)

        def once(cuts: jax.Array) -> tuple[jax.Array, jax.Array]:
            cuts, dropped = shard.sweep(judge, (H, shard.halo(cuts)), _chunk(chunk, H, mesh))
            return cuts, lax.psum(dropped.astype(jnp.int32), axis) > 0

        cuts, done, stable = judged_to_fixed_point(once, jnp.zeros_like(g, bool), limit)
        return (
            shard.sweep(
                stages,
                (H, shard.halo(g), shard.halo(cuts)),
                _chunk(chunk, H, mesh),
            )[0],
            done,
            stable,
        )

    specs = PartitionSpec(axis), PartitionSpec(), PartitionSpec()
    return Direction(*_divided(local, H, g, mesh, axis, specs, scalar))


def _chunk(chunk: int | None, H: jax.Array, mesh: Mesh) -> int:
    # an abstract mesh, for which a program is only lowered, has no devices
    platform = mesh.devices.flat[0].platform if isinstance(mesh, Mesh) else None
    return chunk_here(chunk, H.shape[0] - 1, platform)


class _Shard(NamedTuple):
    """What a device knows of the division.

    Attributes:
        axis: the name of the axis.
        devices: their number.
        band: number of subdiagonals.
        n: length of the chain.
        m: how many vertices a device has.
    """

    axis: str
    devices: int
    band: int
    n: int
    m: int

    def inside(self) -> jax.Array:
        """Which vertices of the part with its halo are of the chain."""
        place = lax.axis_index(self.axis) * self.m + jnp.arange(-self.band, self.m + self.band)
        return (place >= 0) & (place < self.n)

    def halo(self, x: jax.Array) -> jax.Array:
        """The part of an array with the neighbors' vertices, or with vertices that are alone."""
        if self.band == 0:
            return x
        steps = range(self.devices - 1)
        before = lax.ppermute(x[..., self.m - self.band :], self.axis, [(k, k + 1) for k in steps])
        after = lax.ppermute(x[..., : self.band], self.axis, [(k + 1, k) for k in steps])
        alone = surround(x[..., :0], (self.band, self.m + self.band))
        return jnp.where(self.inside(), jnp.concatenate([before, x, after], axis=-1), alone)

    def sweep(self, stages: Stages, arrays: tuple[jax.Array, ...], chunk: int) -> tuple[jax.Array, jax.Array]:
        """What a program gives at this device's vertices, and whether a flag is set at any of them."""
        result, flagged = sweep(stages, arrays, self.inside(), (self.band, self.band), chunk)
        return result[self.band : self.band + self.m], flagged


def _divided(
    local: Callable, H: jax.Array, g: jax.Array, mesh: Mesh, axis: str, out_specs: Any, *scalars: jax.Array
) -> Any:
    """Run a program on every device's part of a chain."""
    H, g = check_pair(H, g)
    (rows, n), devices = H.shape, mesh.shape[axis]
    shard = _Shard(axis, devices, rows - 1, n, -(-n // devices))
    if shard.m < shard.band:
        raise ValueError(
            f"{n} vertices on {devices} devices given; every device needs at least {shard.band}, the band: use fewer"
        )
    missing = (0, devices * shard.m - n)
    H, g = surround(closed(H), missing), surround(g, missing)
    in_specs = (PartitionSpec(None, axis), PartitionSpec(axis), *(PartitionSpec() for _ in scalars))
    mapped = jax.shard_map(partial(local, shard), mesh=mesh, in_specs=in_specs, out_specs=out_specs)
    result = mapped(H, g, *scalars)
    return jax.tree.map(lambda x: x[:n] if x.ndim else x, result) if any(missing) else result
