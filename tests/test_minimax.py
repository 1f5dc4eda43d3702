"""Minimax approximations of inverse roots: that they are the best ones, and what is composed of them."""

import math

import mpmath
import pytest

from precond_lab.preconditioners.inverse_root import minimax, schedules
from precond_lab.preconditioners.inverse_root.chebyshev import expansion
from precond_lab.preconditioners.inverse_root.rational import rational_schedule

ROOTS = (1, 2, 3, 4, 6, 8)
INTERVALS = ((0.5, 1.0), (2.0**-5, 1.0), (1e-6, 1.0), (2.0**-40, 1.0), (0.01, 3.0))


def _grid(lower, upper, count=400):
    """Points as dense at the lower end as at the upper one."""
    spread = [lower * (upper / lower) ** (i / count) for i in range(count + 1)]
    even = [lower + (upper - lower) * i / count for i in range(1, count)]
    return sorted([*spread[:-1], *even, upper])


def _judge(h, p, lower, upper, parameters):
    """The error is what is said, and no function with as many parameters has one smaller by more than 2e-3.

    De la Vallee Poussin: if the error takes alternating signs at one point more than there are parameters, the least of
    these errors is a lower bound of that of the best function.
    """
    runs = []
    for m in _grid(lower, upper):
        error = m ** (1 / p) * h(m) - 1
        if runs and (error > 0) == (runs[-1] > 0):
            runs[-1] = max(runs[-1], error, key=abs)
        else:
            runs.append(error)
    assert len(runs) == parameters + 1
    assert max(map(abs, runs)) <= h.error * (1 + 2 * minimax.LEVEL)
    assert min(map(abs, runs)) >= h.error * (1 - 2e-3)  # the grid is not finer


@pytest.mark.parametrize("p", ROOTS)
def test_polynomials_are_the_best(p):
    for degree in (1, 2, 3, 4):
        for lower, upper in INTERVALS:
            _judge(minimax.polynomial(p, degree, lower, upper), p, lower, upper, degree + 1)


@pytest.mark.parametrize("p", ROOTS[1:])
def test_rational_functions_are_the_best(p):
    for poles in (1, 2, 3):
        for constant in (True, False):
            for lower, upper in INTERVALS[1:]:
                h = minimax.rational(p, poles, lower, upper, constant=constant)
                _judge(h, p, lower, upper, 2 * poles + constant)
                assert min(h.residues + h.poles) > 0
                assert (h.constant > 0) == constant


def test_four_poles():
    h = minimax.rational(2, 4, 2.0**-50, 1.0)
    _judge(h, 2, 2.0**-50, 1.0, 9)


def test_an_inverse_is_its_own_approximation():
    h = minimax.rational(1, 2, 1e-6, 1.0)
    assert [h(m) for m in (1e-6, 0.25, 1.0)] == [1 / 1e-6, 4.0, 1.0]
    assert h.error == 0


@pytest.mark.parametrize(("lower", "upper"), INTERVALS)
def test_the_cubic_of_polar_express(lower, upper):
    """Its closed form for the odd polynomial of x = m^{1/2} on [l, u]."""
    l, u = math.sqrt(lower), math.sqrt(upper)
    alpha = math.sqrt(3 / (u * u + l * u + l * l))
    beta = 4 / (2 + l * u * (l + u) * alpha**3)
    h = minimax.linear(2, lower, upper)
    for x in (l, (l + u) / 2, u):
        assert x * h(x * x) == pytest.approx(
            1.5 * alpha * beta * x - 0.5 * alpha**3 * beta * x**3, rel=1e-12, abs=1e-12
        )


@pytest.mark.parametrize("p", ROOTS)
def test_linear_is_the_polynomial_of_degree_one(p):
    for lower, upper in INTERVALS:
        closed, exchanged = minimax.linear(p, lower, upper), minimax.polynomial(p, 1, lower, upper)
        assert closed.coefficients == pytest.approx(exchanged.coefficients, rel=1e-5)
        assert closed.error == pytest.approx(exchanged.error, rel=1e-5)
    assert minimax.linear(p, 1.0, 1.0).coefficients == pytest.approx(minimax.taylor(p, 1).coefficients)


@pytest.mark.parametrize("poles", [1, 2, 3])
def test_zolotarev(poles):
    """For p = 2 and type (v - 1, v): poles at -l c_{2j-1}, c_i = sn^2 / cn^2 of i K' / (2 v), of modulus 1 - l."""
    for lower in (1e-2, 1e-6, 1e-12):
        with mpmath.workdps(40):
            modulus = 1 - mpmath.mpf(lower)
            K = mpmath.ellipk(modulus)
            ratios = [
                (
                    mpmath.ellipfun("sn", i * K / (2 * poles), m=modulus)
                    / mpmath.ellipfun("cn", i * K / (2 * poles), m=modulus)
                )
                ** 2
                for i in range(1, 2 * poles)
            ]
            expected = sorted(float(lower * c) for c in ratios[::2])
        found = sorted(minimax.rational(2, poles, lower, 1.0, constant=False).poles)
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("p", ROOTS[1:])
def test_pade_agrees_to_its_order(p):
    """The error is O((m - 1)^N) with N parameters: twice the distance has 2^N the error, up to the next order."""
    for poles in (1, 2):
        for constant in (True, False):
            h = minimax.pade(p, poles, constant=constant)
            errors = [(1 + d) ** (1 / p) * h(1 + d) - 1 for d in (2.0**-4, 2.0**-5)]
            assert math.log2(errors[0] / errors[1]) == pytest.approx(2 * poles + constant, abs=0.25)
    assert minimax.pade(2, 1).constant == pytest.approx(1 / 3)  # Halley: (3 + m) / (1 + 3 m)


@pytest.mark.parametrize("p", ROOTS)
def test_taylor_agrees_to_its_order(p):
    for degree in (1, 2, 3):
        h = minimax.taylor(p, degree)
        errors = [(1 + d) ** (1 / p) * h(1 + d) - 1 for d in (2.0**-6, 2.0**-7)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(degree + 1, abs=0.1)


def _after(functions, p, m):
    for h in functions:
        m *= h(m) ** p
    return m


@pytest.mark.parametrize("name", ["polar_express", "chebyshev_accelerated"])
@pytest.mark.parametrize("p", [2, 3, 4, 8])
def test_schedules_cover_their_interval(name, p):
    """All of [l, 1] is where the last polynomial says, also if every step is off by what the safety allows."""
    for degree in (1, 2):
        for lower in (1e-2, 2.0**-24):
            for safety in (1.0, 1.01):
                plan = schedules.schedule_of(name, p, degree, lower, safety)
                error = plan.first[-1].error
                assert error < 0.1
                least, largest = (1 - error) ** p, (1 + error) ** p
                for m in _grid(lower, 1.0, 60):
                    assert least * (1 - 1e-5) <= _after(plan.first, p, m) <= largest * (1 + 1e-5)
                    pushed = m
                    for h in plan.first:
                        pushed *= safety
                        assert h(pushed) > 0
                        pushed *= h(pushed) ** p
                    assert least * (1 - 1e-5) <= pushed <= largest * (1 + 1e-5)


def test_without_safety_the_upper_end_turns_negative():
    assert schedules.polar_express(2, 1, 1e-6, 1.0).first[0](1.0) > 0
    assert schedules.polar_express(2, 1, 1e-6, 1.0).first[0](1.01) < 0
    assert schedules.polar_express(2, 1, 1e-6, 1.01).first[0](1.01) > 0


def test_schedules_are_shorter_than_newton_schulz():
    """Composed minimax polynomials gain by at most 2 (degree + 1) - 1 squared a step, Newton-Schulz by 9 / 4."""
    taylor = minimax.taylor(2, 1)
    m, steps = 1e-6, 0
    while m < 0.9:
        m, steps = m * taylor(m) ** 2, steps + 1
    assert len(schedules.polar_express(2, 1, 1e-6, 1.0).first) <= steps / 2


def test_the_tube_has_a_floor():
    """Nothing above the valley falls below it in Chebyshev acceleration; in Polar Express it falls to the bottom."""
    for name, low in (("chebyshev_accelerated", schedules.VALLEY * 0.99), ("polar_express", 0.0)):
        least = 1.0
        plan = schedules.schedule_of(name, 2, 2, 2.0**-24, 1.0)
        for m in _grid(schedules.VALLEY, 1.0, 100):
            for k in range(len(plan.first)):
                least = min(least, _after(plan.first[: k + 1], 2, m))
        assert least > low
    assert least < 1e-4


def test_muon_converges_to_nothing():
    """One is no fixed point, and eigenvalues keep moving within a band of width one half and more."""
    h = schedules.muon(2, 2, 0.0, 1.0).last
    assert h(1.0) == pytest.approx(3.4445 - 4.7750 + 2.0315)
    m, seen = 0.5, []
    for _ in range(200):
        m *= h(m) ** 2
        seen.append(m)
    assert max(seen[100:]) - min(seen[100:]) > 0.5
    assert 0.3 < min(seen[5:]) < max(seen[5:]) < 1.7


@pytest.mark.parametrize("p", [2, 3, 4, 8])
def test_rational_schedules_cover_their_interval(p):
    for poles in (1, 2, 3):
        for constant in (True, False):
            functions = rational_schedule(p, poles, 2.0**-40, constant=constant, accuracy=1e-9)
            for m in _grid(2.0**-40, 1.0, 100):
                assert abs(_after(functions, p, m) - 1) <= 2 * p * 1e-9


def test_the_expansion_of_an_inverse():
    """1 / x = (1 + 2 sum_k (-r)^k T_k) / sqrt(l u), r = (sqrt(kappa) - 1) / (sqrt(kappa) + 1)."""
    for lower, upper in ((1.0, 3.0), (2.0**-8, 1.0), (1e-4, 1.0)):
        root = math.sqrt(upper / lower)
        r = (root - 1) / (root + 1)
        expected = [(2 if k else 1) * (-r) ** k / math.sqrt(lower * upper) for k in range(41)]
        # What is left out by the sum: coefficients of degree 2 N - k, N = 40 + 8 ceil(root), are below r^(16 root).
        bound = 2.0**-46 * expected[0] + 4 * r ** (16 * root) * expected[0]
        assert expansion(1, 40, lower, upper) == pytest.approx(expected, abs=bound, rel=0)


def _needed(p, kappa, tau):
    """The least degree whose remainder, by its coefficients, is below tau of the largest value."""
    c = expansion(p, math.ceil(12 * math.sqrt(kappa)), 1 / kappa, 1.0)
    rest, degree = 0.0, len(c)
    while rest <= tau * kappa ** (1 / p):
        degree -= 1
        rest += abs(c[degree])
    return degree


@pytest.mark.parametrize("p", [1, 2, 4])
def test_the_degree_grows_as_the_root_of_the_condition(p):
    few, more, many = (_needed(p, kappa, 1e-4) for kappa in (1e2, 1e3, 1e4))
    assert 0.75 * math.sqrt(10) < more / few < 1.25 * math.sqrt(10)
    assert 0.75 * math.sqrt(10) < many / more < 1.25 * math.sqrt(10)
    assert few > 20  # what is in use for every matrix


def test_misuse():
    with pytest.raises(ValueError, match="degree 0"):
        minimax.polynomial(2, 0, 0.1, 1.0)
    with pytest.raises(ValueError, match=r"\[0.9, 1.0\]"):
        minimax.polynomial(2, 2, 0.9, 1.0)
    with pytest.raises(ValueError, match="0 poles"):
        minimax.rational(2, 0, 0.1, 1.0)
    with pytest.raises(ValueError, match="known are newton_schulz"):
        schedules.schedule_of("nonsense", 2, 2, 0.1, 1.0)
    with pytest.raises(ValueError, match="lower 0"):
        schedules.schedule_of("polar_express", 2, 2, 0.0, 1.0)
    with pytest.raises(ValueError, match="for p = 2 and degree 2"):
        schedules.schedule_of("muon", 4, 2, 0.1, 1.0)
    with pytest.raises(ValueError, match="lower 0"):
        rational_schedule(2, 2, 0.0)
    with pytest.raises(ValueError, match="degree 0"):
        expansion(2, 0, 0.1, 1.0)
