"""State, arrays and scalars in arithmetics of their own."""

import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.arithmetic.roles import by_role
from precond_lab.preconditioners import rank_one


def test_what_is_not_said_is_that_of_the_state():
    assert by_role(state="bfloat16") == by_role(state="bfloat16", arrays="bfloat16", scalars="bfloat16")
    assert by_role(state="bfloat16", arrays="float32").format == pl.formats.float32


def test_each_role_is_rounded_for_itself():
    """beta = 0.99 is kept, v is rounded where arrays are, and P where it is kept."""
    form, beta = rank_one.METHODS["symmetric"], np.float32(0.99)
    run = pl.emulate(
        lambda v, beta: rank_one.run(form, form.start(jnp.ones(1)), v, beta)[0].P,
        by_role(state="e4m3fn", arrays="bfloat16", scalars="float32"),
    )
    v = np.float32([[1.01]])
    w = pl.round_to(v[0, 0], "bfloat16")
    d = np.float32(beta / np.float32(1 - beta)) + w * w
    correction = pl.round_to(pl.round_to(w * w, "bfloat16") / d, "bfloat16")
    difference = pl.round_to(1 - correction, "bfloat16")
    assert run(v, beta).item() == pl.round_to(np.float32(difference / beta), "e4m3fn").item()


def test_a_program_without_state_or_scalars_is_run():
    G, a, b = np.ones((2, 3), np.float32), np.ones(3, np.float32), np.ones(2, np.float32)
    role = by_role(arrays="bfloat16", scalars="float32")
    assert pl.emulate(rank_one.eva, role)(G, a, b, np.float32(0.5)).shape == (2, 3)
    u = np.float32([1, 16])
    exact = pl.emulate(rank_one.sherman_morrison, by_role(arrays="float32"))(np.eye(2, dtype=np.float32), u, u)
    rounded = pl.emulate(rank_one.sherman_morrison, role)(np.eye(2, dtype=np.float32), u, u)
    np.testing.assert_array_equal(rounded[0, 1], pl.round_to(exact[0, 1], "bfloat16"))


def test_a_program_that_marks_nothing_is_refused():
    with pytest.raises(ValueError, match="neither a primitive nor a scope"):
        pl.emulate(jnp.sin, by_role(arrays="bfloat16"))(1.0)
    with pytest.raises(ValueError, match="neither state nor arrays given"):
        by_role(scalars="float32")


def test_a_state_wider_than_the_scalars_is_refused():
    with pytest.raises(ValueError, match="give scalars a format that holds"):
        by_role(state="float32", arrays="bfloat16", scalars="bfloat16")
