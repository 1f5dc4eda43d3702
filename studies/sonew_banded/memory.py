"""What the projection costs in memory: the optimizer's state, and the temporaries of compiled programs."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from precond_lab.optimizers.sonew import scale_by_sonew
from precond_lab.preconditioners import logdet
from precond_lab.preconditioners.logdet.chunks import direction_in_chunks

BYTES = 4  # of a float32


def measure_memory(case: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers a parameter: of the optimizer's state, and at the peak of compiled programs in float32."""
    band, n = case["band"], case["n"]
    optimizer = scale_by_sonew(band)
    g = jax.ShapeDtypeStruct((n,), jnp.float32)
    state = jax.eval_shape(optimizer.init, g)
    H = jax.ShapeDtypeStruct((band + 1, n), jnp.float32)
    return {
        "state": sum(leaf.size for leaf in jax.tree.leaves(state)) / n,
        "temporaries_of_direction": _temporaries(lambda H, g: logdet.apply(logdet.project(H), g), H, g) / n,
        "temporaries_in_chunks": _temporaries(direction_in_chunks, H, g) / n,
        "temporaries_of_step": _temporaries(optimizer.update, g, state) / n,
        "window_tensor": (band + 1) ** 2,
    }


def _temporaries(program: Any, *arguments: Any) -> float:
    """What a compiled program holds besides its arguments and results, in numbers."""
    analysis = jax.jit(program).lower(*arguments).compile().memory_analysis()
    if analysis is None:
        raise RuntimeError("this backend of JAX does not say how much memory a compiled program takes")
    return analysis.temp_size_in_bytes / BYTES
