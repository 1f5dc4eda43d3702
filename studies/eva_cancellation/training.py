"""Training runs: what Eva's correction is worth as coded, and how sigma goes as a network interpolates."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from precond_lab.preconditioners.rank_one.averages import average_vector
from precond_lab.preconditioners.rank_one.clipping import kl_clip
from precond_lab.preconditioners.rank_one.eva import eva
from precond_lab.training import Layer
from precond_lab.training.stream import minibatches

from .cases import METHODS, Part
from .networks import TASKS, Vectors, data_of, observe
from .settings import Settings

DAMPING, CLIP, NEW_WEIGHT, SAMPLES = 0.03, 1e-3, 0.95, 16  # of the authors' code, as it is run
LEARNING_RATE, MOMENTUM = 0.1, 0.9
ADAM = 1e-3  # first learning rate of the run that is to interpolate, which falls to zero as a cosine
TRACKED = ("correction", "largest_correction", "ratio", "loss")


def correct(vectors: Sequence[Vectors]) -> tuple[list[jax.Array], dict[str, jax.Array]]:
    """P of every layer; the size of what is subtracted from G, over all layers and in the worst, and sigma / gamma."""
    sizes, norms, ratios = [], [], []
    for G, a, b in vectors:
        sigma = jnp.sum(a * a) * jnp.sum(b * b)
        sizes.append(jnp.abs(b @ G @ a) / (DAMPING + sigma) * jnp.sqrt(sigma))
        norms.append(jnp.linalg.norm(G))
        ratios.append(sigma / DAMPING)
    size, norm = jnp.stack(sizes), jnp.stack(norms)
    return [eva(G, a, b, DAMPING) for G, a, b in vectors], {
        "correction": jnp.linalg.norm(size) / jnp.linalg.norm(norm),
        "largest_correction": jnp.max(size / norm),
        "ratio": jnp.median(jnp.stack(ratios)),
    }


@partial(jax.jit, static_argnames="task")
def train(
    params: tuple[Layer, ...], inputs: jax.Array, targets: jax.Array, order: jax.Array, scale: jax.Array, *, task: str
) -> dict[str, jax.Array]:
    """Momentum over Eva's directions, clipped, for the minibatches of an order ``[steps, batch]``.

    b is multiplied by the scale: by 1 it is as coded, by the size of the batch it is that by sample, and by 0 there is
    no correction, and P is G / gamma. The learning rate falls to zero as a straight line.

    Args:
        params: the first ones.
        inputs: of all samples.
        targets: of all samples.
        order: which of them each minibatch has.
        scale: of b.
        task: a name in `TASKS`.

    Returns:
        The loss before every step, and of every step what `correct` measures.
    """
    rates = LEARNING_RATE * (1 - jnp.arange(len(order)) / len(order))

    def step(carry: Any, given: Any) -> Any:
        (params, velocities, averages, begun), (chosen, rate) = carry, given
        loss, seen = observe(TASKS[task], params, inputs[chosen], targets[chosen], SAMPLES)
        new = jnp.where(begun, NEW_WEIGHT, 1.0)
        averages = [
            tuple(average_vector(x, y, new_weight=new) for x, y in zip(before, (s.a, s.b), strict=True))
            for before, s in zip(averages, seen, strict=True)
        ]
        P, figures = correct([Vectors(s.G, a, scale * b) for s, (a, b) in zip(seen, averages, strict=True)])
        P = kl_clip(P, [s.G for s in seen], rate, CLIP).gradients
        velocities = [MOMENTUM * v + p for v, p in zip(velocities, P, strict=True)]
        params = tuple(
            Layer(layer.kernel - rate * v[:, :-1].T, layer.bias - rate * v[:, -1])
            for layer, v in zip(params, velocities, strict=True)
        )
        return (params, velocities, averages, jnp.array(True)), {**figures, "loss": loss}

    shapes = [(layer.kernel.shape[1], layer.kernel.shape[0] + 1) for layer in params]
    start = [(jnp.zeros(n), jnp.zeros(m)) for m, n in shapes]
    carry = (params, [jnp.zeros(shape) for shape in shapes], start, jnp.array(False))
    return jax.lax.scan(step, carry, (order, rates))[1]


@lru_cache(maxsize=4)
def training_run(settings: Settings, task: str, method: str, batch: int, seed: int) -> dict[str, np.ndarray]:
    """What is tracked, step by step."""
    inputs, targets = data_of(task, settings.folder, settings.images)
    chosen = minibatches(len(inputs), batch, seed)
    order = np.stack([next(chosen) for _ in range(settings.steps)])
    scale = (1.0, 0.0, float(batch))[METHODS.index(method)]
    with jax.enable_x64(False):
        params = TASKS[task].initialize(jax.random.key(seed), settings.widths(task))
        found = train(params, inputs, targets, np.int32(order), np.float32(scale), task=task)
        return {name: np.asarray(values, np.float64) for name, values in jax.device_get(found).items()}


def measure_training(cases: Sequence[Mapping[str, Any]], settings: Settings) -> list[Mapping[str, Any]]:
    """Medians over the steps since the case before.

    Args:
        cases: of one run, in any order.
        settings: of the run.

    Returns:
        The figures of each.
    """
    recorded, found = settings.recorded(settings.steps), []
    for case in cases:
        run = training_run(settings, *(case[name] for name in ("task", "method", "batch", "seed")))
        before = max((t for t in recorded if t < case["t"]), default=0)
        found.append({name: float(np.median(run[name][before : case["t"]])) for name in TRACKED})
    return found


@partial(jax.jit, static_argnames="steps")
def interpolate(params: tuple[Layer, ...], inputs: jax.Array, targets: jax.Array, steps: int) -> dict[str, jax.Array]:
    """Adam on all samples in every step: the loss, and for each layer |a|^2 and |b|^2, b by sample.

    And the distance of b from what automatic differentiation by the bias of the layer gives.
    """
    optimizer, task = optax.adam(optax.cosine_decay_schedule(ADAM, steps)), TASKS["classes"]

    def mean_loss(biases: tuple[jax.Array, ...], params: tuple[Layer, ...]) -> jax.Array:
        own = [Layer(layer.kernel, bias) for layer, bias in zip(params, biases, strict=True)]
        return jnp.mean(task.loss(task.signals(own, inputs)[-1], targets))

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        loss, seen = observe(task, params, inputs, targets, len(inputs))
        gradients = tuple(Layer(s.G[:, :-1].T, s.G[:, -1]) for s in seen)
        updates, state = optimizer.update(gradients, state)
        b, by_bias = [len(inputs) * s.b for s in seen], jax.grad(mean_loss)(tuple(p.bias for p in params), params)
        figures = {
            "loss": loss,
            "a": jnp.stack([jnp.sum(s.a * s.a) for s in seen]),
            "b": jnp.stack([jnp.sum(x * x) for x in b]),
            "difference": jnp.stack([jnp.linalg.norm(x - g) for x, g in zip(b, by_bias, strict=True)]),
        }
        return (optax.apply_updates(params, updates), state), figures

    return jax.lax.scan(step, (params, optimizer.init(params)), None, steps)[1]


@lru_cache(maxsize=2)
def interpolation_run(settings: Settings, few: int, seed: int) -> dict[str, np.ndarray]:
    """What is tracked, step by step."""
    inputs, targets = data_of("classes", settings.folder, settings.images)
    own = slice(seed * few, (seed + 1) * few)
    with jax.enable_x64(False):
        params = TASKS["classes"].initialize(jax.random.key(seed), settings.widths("classes"))
        found = jax.device_get(interpolate(params, inputs[own], targets[own], settings.long))
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def measure_interpolation(cases: Sequence[Mapping[str, Any]], settings: Settings) -> list[Mapping[str, Any]]:
    """Sigma of a layer at a step, over what it was at the first.

    Args:
        cases: of one run.
        settings: of the run.

    Returns:
        The figures of each.
    """
    found = []
    for case in cases:
        run = interpolation_run(settings, case["few"], case["seed"])
        t, layer = case["t"] - 1, case["layer"] - 1
        a, b = run["a"][:, layer], run["b"][:, layer]
        found.append({
            "sigma": float(a[t] * b[t]),
            "sigma_over_first": float(a[t] * b[t] / (a[0] * b[0])),
            "inputs_over_first": float(a[t] / a[0]),
            "bias_difference": float(run["difference"][t, layer] / np.sqrt(b[0])),
            "loss": float(run["loss"][t]),
        })
    return found


MEASURES: dict[Part, Callable] = {Part.TRAINING: measure_training, Part.INTERPOLATION: measure_interpolation}
