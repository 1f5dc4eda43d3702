"""State, arrays and scalars in arithmetics of their own.

Programs of :mod:`precond_lab.preconditioners.rank_one` mark by `jax.named_scope` what they carry to the next step
("state") and what they compute with scalars ("scalars"); the rest is the arithmetic of arrays.
"""

from dataclasses import replace

from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.specification import ROLES, Arithmetic, as_arithmetic, within


def by_role(
    *,
    state: Arithmetic | Format | str | None = None,
    arrays: Arithmetic | Format | str | None = None,
    scalars: Arithmetic | Format | str | None = None,
) -> Arithmetic:
    """The arithmetic of a program whose state, arrays and scalars are rounded differently.

    Arguments and results of the program are in the arithmetic of scalars, so that a decay of 0.99 is not a neighbor of
    it in eight bits.

    A program must mark its arrays, and may have no state or no scalars.

    Args:
        state: of what is carried from step to step; None for that of the arrays.
        arrays: of operations on arrays; None for that of the state.
        scalars: of operations with a scalar; None for that of the arrays.

    Returns:
        One arithmetic, with overrides for the scopes of the three roles.

    Raises:
        ValueError: neither state nor arrays are given, one of them has overrides of its own, or the state has numbers
            that the arithmetic of scalars lacks.

    Example:
        >>> str(by_role(state="bfloat16", arrays="float32"))
        'float32 (arrays in float32, scalars in float32, state in bfloat16)'
    """
    given = state if arrays is None else arrays
    if given is None:
        raise ValueError("neither state nor arrays given: give the arithmetic of one of them at least")
    arrays = as_arithmetic(given)
    state = arrays if state is None else as_arithmetic(state)
    scalars = arrays if scalars is None else as_arithmetic(scalars)
    if not within(state.result, scalars.result):
        raise ValueError(
            f"state in {state} given with scalars in {scalars}: what is carried from step to step passes through the "
            "arithmetic of scalars; give scalars a format that holds the numbers of the state"
        )
    return replace(scalars, overrides=dict(zip(ROLES, (arrays, state, scalars), strict=True)))
