"""What is claimed of inverses carried by updates of rank one, and how the rows settle it."""

from functools import partial

from precond_lab.study import Claim, Row

from . import breakdowns, certificates, laws
from .cases import FACTORS, ORDER, ROUNDOFF, Part
from .rows import lost, of, thresholds, typical

ASYMMETRY = "derived: an antisymmetric part K of P becomes K / beta where w = P v stands for v^T P too"
INFORMATION = "derived: P <- P + E changes C, which the step multiplies by beta"
ROUNDING = "derived: lambda_min(H) > u ||H||, H = P scaled to a unit diagonal"
ORDER_BOUND = "derived: an induction in the order of symmetric matrices"
BIERMAN = "Bierman, Factorization Methods for Discrete Sequential Estimation (1977); thresholds derived"
MKOR = "Mozaffari et al., MKOR (NeurIPS 2023), whose state is half precision"
MA = "Ma, Boutsikas, Ghadiri and Drineas, A note on the stability of the SMW formula (arXiv 2504.04554)"
HASHEMI = "Hashemi and Nakatsukasa, Instability of the Sherman-Morrison formula (arXiv 2510.01696)"
MEASURED = "derived from runs with other streams"

CLAIMS = (
    Claim(
        "E7",
        "Where the triangles are rounded differently, or P is not symmetric to begin with, definiteness is lost after "
        "ln(1/u) / ln(1/beta) steps, to 25 percent, in float32 as in 16 bits.",
        ASYMMETRY,
        laws.asymmetry_law,
    ),
    Claim(
        "E7-growth",
        "Until then the antisymmetric part grows by 1/beta in every step: the logarithm of its growth is within "
        "five percent.",
        ASYMMETRY,
        laws.asymmetry_grows,
    ),
    Claim(
        "E7-decay",
        "Where the decay is rounded to the format as well, the law holds with the decay that the format holds.",
        ASYMMETRY,
        laws.rounded_decay,
    ),
    Claim(
        "E7-symmetric",
        "The form that is symmetric bit for bit survives ten times as many steps.",
        ASYMMETRY,
        laws.symmetric_survives,
    ),
    Claim(
        "E7-both",
        "With both P v and v^T P the antisymmetric part contracts: it stays below ten times u.",
        ASYMMETRY,
        laws.both_contract,
    ),
    Claim(
        "E8",
        "A symmetric perturbation of P is forgotten at the rate of the decay, dC_t = beta^t dC_0, and never where beta "
        "is one: to 1e-8 in float64.",
        INFORMATION,
        laws.forgets,
    ),
    Claim(
        "E9",
        "The inverse itself in 16 bits, with arrays and scalars in float32 and eigenvectors in general position, is "
        "never "
        "lost for kappa u up to 0.25 and in half of the cases or more from 4 on; kappa is the largest of the "
        "accumulated "
        "matrix.",
        MEASURED,
        breakdowns.threshold_of_dense,
    ),
    Claim(
        "E9-order",
        "At one decay that threshold is the same for all orders, to a factor of two.",
        MEASURED,
        breakdowns.threshold_by_order,
    ),
    Claim(
        "E9-memory",
        "At one order it is the same for all decays, to a factor of two.",
        "asked of the threshold; bounded errors need eta < 1 - beta",
        breakdowns.threshold_by_memory,
    ),
    Claim(
        "E9-graded",
        "Where the eigenvectors are the axes, bfloat16 carries the inverse whatever the condition number.",
        "derived: rounding is relative, and leaves H as it is",
        breakdowns.graded_is_benign,
    ),
    Claim(
        "E9-arrays",
        "Arrays in the format of the state lower the threshold, by a factor of three at most.",
        MEASURED,
        breakdowns.arrays_cost,
    ),
    Claim(
        "E10",
        "An SPD matrix with lambda_min(H) > n u stays positive definite when its entries are rounded to a floating "
        "format, none of them below the normal range.",
        ROUNDING,
        certificates.by_order,
    ),
    Claim("E10-underflow", "The same with entries below the normal range.", ROUNDING, certificates.by_order_underflow),
    Claim(
        "E10-certificate",
        "The certificate that counts what underflows loses none.",
        ROUNDING,
        certificates.by_norm,
    ),
    Claim(
        "E11",
        "With errors -eta X <= E <= eta X in every step the inverse of what is kept stays between the recursions "
        "divided "
        "by 1 + eta and 1 - eta.",
        ORDER_BOUND,
        certificates.stays_between,
    ),
    Claim(
        "E11-bounded",
        "With the worst such errors it stays bounded exactly where eta < 1 - beta, at 1 + eta / (1 - beta - eta) "
        "times the "
        "exact one.",
        ORDER_BOUND,
        certificates.bounded_below,
    ),
    Claim(
        "E11-random",
        "For eta > 1 - beta random errors make it grow as fast as the worst ones do.",
        "asked of the bound",
        certificates.random_errors_grow,
    ),
    Claim(
        "E12",
        "Joseph's form with P kept in 16 bits is lost at the condition number at which the symmetric form is, to a "
        "factor "
        "of two.",
        MEASURED,
        breakdowns.joseph_does_not_help,
    ),
    Claim(
        "E13",
        "Square roots, U D U^T, L D L^T and Cholesky factors in 16 or 8 bits never stand for a matrix with a "
        "negative eigenvalue.",
        BIERMAN,
        breakdowns.never_negative,
    ),
    Claim("E13-definite", "Nor for one that is singular.", BIERMAN, breakdowns.never_singular),
    Claim(
        "E13-ud",
        "For condition numbers up to 1e4 the error of U D U^T is at most that of Potter's square root.",
        BIERMAN,
        breakdowns.ud_before_potter,
    ),
    Claim(
        "E13-best",
        "Of the factors, U D U^T has the least error in 16 bits, to ten percent, for condition numbers up to 1e5.",
        MEASURED,
        breakdowns.ud_is_best,
    ),
    Claim(
        "E14",
        "Potter's square root in float16 fails where the root is taken of tau d, which overflows, started from C = "
        "I at "
        "a condition number of 1e5; scalars in float32 bring the error to five percent.",
        BIERMAN,
        breakdowns.root_overflows,
    ),
    Claim(
        "E15",
        "In int8 with one scale for all entries a graded inverse with a condition number of 200 or more ceases to be "
        "positive definite within 192 steps, beta = 0.95; with the diagonal apart it does not.",
        MEASURED,
        breakdowns.integers,
    ),
    Claim(
        "E20",
        "Coordinates that no vector excites overflow float16 in step ln(65504) / ln(1/beta), to two percent.",
        "derived: P grows by 1/beta along them",
        laws.winds_up,
    ),
    Claim(
        "E20-rotated",
        "So do directions in general position.",
        "derived: P grows by 1/beta along them",
        laws.winds_up_rotated,
    ),
    Claim(
        "E20-definite",
        "There definiteness is lost long before: after ln(1/u) / ln(1/beta) steps, to 25 percent.",
        "derived: kappa grows as beta^-t",
        laws.windup_loses,
    ),
    Claim(
        "E20-cures",
        "Damping, or blending with more than 1 - beta of the identity, prevents both.",
        MKOR,
        laws.cured,
    ),
    Claim("E20-blend", "Blending with any part of the identity prevents the overflow.", MKOR, laws.weak_blend),
    Claim(
        "E21",
        "With beta = 1 the inverse of a sum freezes: its error is above 0.2 after more than 4 / u steps in 16 bits, "
        "and "
        "below 1e-5 after 20000 in float32.",
        "derived: a step changes P by 1/t",
        laws.freezes,
    ),
    Claim(
        "E21-law",
        "The error in 16 bits is that of a diagonal entry whose steps are rounded to multiples of its spacing, to a "
        "factor of two.",
        "derived: see stagnation_law",
        laws.freezing_law,
    ),
    Claim(
        "E21-stochastic",
        "With stochastic rounding it does not freeze: the error is below 0.2 after 20000 steps.",
        "derived: the mean of a step is kept",
        laws.stochastic_goes_on,
    ),
    Claim("E22", "The bound of the forward error of an update is never violated.", MA, certificates.forward_bound),
    Claim(
        "E22-tight",
        "In the median the error is more than 0.05 of it at every condition number up to 1e4.",
        MA,
        certificates.forward_tightness,
    ),
    Claim(
        "E23",
        "One step of refinement brings the backward error of Sherman and Morrison's solution to 10 u for kappa(A) u up "
        "to 1e-3.",
        HASHEMI,
        certificates.refined,
    ),
    Claim("E23-two", "Two steps of refinement do.", HASHEMI, certificates.refined_twice),
    Claim(
        "E23-plain",
        "Without it the backward error is proportional to kappa(A): to a power between 0.8 and 1.2.",
        HASHEMI,
        certificates.unrefined,
    ),
    Claim(
        "E24",
        "To invert anew every ten steps keeps the error below a tenth for kappa u from 4 to 64, but whether every ten "
        "or fifty steps, definiteness is lost between in half of the runs or more.",
        MEASURED,
        breakdowns.refresh_caps,
    ),
    Claim(
        "E26",
        "The 16-bit copy of a float32 master is off by 2 u at most, at any condition number.",
        MEASURED,
        breakdowns.master_error,
    ),
    Claim(
        "E26-moderate",
        "It is for kappa u up to 16.",
        MEASURED,
        partial(breakdowns.master_error, strain_up_to=16),
    ),
    Claim(
        "E26-threshold",
        "It is lost at a condition number at least four times that of the recursion in 16 bits.",
        MEASURED,
        breakdowns.master_threshold,
    ),
    Claim(
        "E30",
        "Stochastic rounding of P does not raise the threshold by more than a factor of two.",
        MEASURED,
        breakdowns.stochastic_does_not_help,
    ),
)


def answer(rows: list[Row]) -> str:
    """The sentence below the question."""
    edges = thresholds(rows, "symmetric")
    kappa = 2.0**12
    found = of(rows, Part.SURVIVAL, arithmetic="stored", stream="rotated", format="bfloat16", condition=kappa)
    errors = {form: typical(of(found, form=form), "error") for form in FACTORS}
    best = min(errors, key=errors.__getitem__)
    factors = [r for r in of(rows, Part.SURVIVAL) if r["form"] in FACTORS and r["format"] in {"bfloat16", "float16"}]
    law = of(rows, Part.ASYMMETRY, form="gain", format="float32", beta=0.95, arithmetic="computed")
    return (
        f"The gain form is lost even in float32 (beta = 0.95: step {law[0]['first_loss']}); kept symmetric bit for "
        f"bit, the "
        f"inverse itself survives up to a condition number of {edges['bfloat16'] / ROUNDOFF['bfloat16']:.2g} in "
        f"bfloat16 "
        f"and {edges['float16'] / ROUNDOFF['float16']:.2g} in float16 (n = {ORDER}); factors in 16 bits are lost in "
        f"{sum(map(lost, factors))} of {len(factors)} runs, the best of them, {best}, is off by {errors[best]:.2g} in "
        f"bfloat16 at {kappa:.0f}."
    )
