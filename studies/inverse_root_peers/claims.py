"""What is claimed of the roots in use, and how the rows settle it."""

from precond_lab.study import Claim, Row

from . import judges
from .cases import INPUTS, POWERS, PUBLISHED, USERS, Part
from .rows import of, typical

OPTAX = "optax, matrix_inverse_pth_root"
GOOGLE = "google-research/precondition, matrix_inverse_pth_root"
META = "facebookresearch/optimizers, matrix_inverse_root"
ANIL = "Anil et al., Scalable Second Order Optimization for Deep Learning (arXiv 2002.09018)"
SOAP = "Vyas et al., SOAP (arXiv 2409.11321): one QR step every ten updates"

CLAIMS = (
    Claim(
        "R24",
        "p may be any positive integer: for p from 1 to 16 and condition numbers up to 1e4 optax's root, without a "
        "ridge, is right to 0.001.",
        OPTAX + " (documentation)",
        judges.any_exponent,
    ),
    Claim(
        "R24-what",
        "For p that is none of 1, 2, 4, 8 optax returns z^(1/p - 1/q) A^(-1/q), with q the power of two next to p by "
        "its logarithm, at most 8, and z = (p+1) / (2 |A|_F): to within 10 kappa u.",
        "derived: T^p is formed as T^q",
        judges.another_power,
    ),
    Claim("R24-said", "What optax reports of such a root is at least 0.1.", OPTAX, judges.wrong_power_is_reported),
    Claim(
        "R24-here",
        "The package's coupled Newton is right to 0.001 for all of these p.",
        "derived",
        judges.any_exponent_here,
    ),
    Claim(
        "R16",
        "The root of 2^k A is 2^(-k/p) times that of A, to within 10 kappa u, for k from -96 to 96 and every published "
        "rule.",
        "implicit in optimizers that know no scale of a gradient",
        judges.scale_is_free,
    ),
    Claim(
        "R16-said",
        "Where the scale has spoiled a published root, its caller sees it: none that is off by more than 1/16 is "
        "taken.",
        "implicit",
        judges.spoiled_by_scale_is_seen,
    ),
    Claim(
        "R16-here",
        "The package's roots of 2^k A have the bits of that of A, times 2^(-k/p), for k that p divides.",
        "derived: matrices are scaled by powers of two first",
        judges.scale_is_exact_here,
    ),
    Claim(
        "R5-accepted",
        "A root whose reported error is below 0.1 is right to ten percent, as the root of the matrix with its ridge.",
        GOOGLE + " (roots with less than 0.1 are taken)",
        judges.accepted_is_right,
    ),
    Claim(
        "R5-certificate",
        "No root that the certificate passes is off by more than 1/16, whoever computed it.",
        "derived, to first order",
        judges.certified_is_right,
    ),
    Claim(
        "R5-alarms",
        "The certificate passes every root that is right to 1/64.",
        "derived for symmetric roots with errors along small eigenvalues",
        judges.right_is_certified,
    ),
    Claim(
        "R3-retried",
        "Where float32 does not do, making the ridge tenfold until max|M - I| is below 0.05 leads to a root that is "
        "right to ten percent, at a condition number of 1e10.",
        GOOGLE + " (six tries)",
        judges.retrying_helps,
    ),
    Claim(
        "R3-float64",
        "In float64 the same rule, with a ridge of 1e-12, is right to one percent at a condition number of 1e10.",
        ANIL,
        judges.float64_does,
    ),
    Claim(
        "R22",
        "The largest of numbers of which one is NaN is NaN, as JAX computes it.",
        "implicit in guards by a maximum",
        judges.maximum_of_nan,
    ),
    Claim(
        "R22-others",
        "A sum, a norm, isnan(x).any(), isfinite(x).all() and the package's certificate see every NaN.",
        "derived",
        judges.other_guards,
    ),
    Claim(
        "R22-accepted",
        "A root that is NaN is not taken by an optimizer that wants a reported error below 0.1.",
        GOOGLE + " and " + OPTAX + ", with that threshold",
        judges.nan_is_refused,
    ),
    Claim(
        "R14",
        "A start from the previous root costs no accuracy: for a matrix that changes by at most one percent the error "
        "is at most ten times that of a cold start.",
        ANIL + " (warm start)",
        judges.warm_start_is_accurate,
    ),
    Claim(
        "R14-said",
        "Where such a root is off by more than ten percent, max|M - I| is at least 0.1.",
        GOOGLE,
        judges.warm_start_is_reported,
    ),
    Claim(
        "R14-basis",
        "A start from the previous eigenvectors costs none: the error is at most 10 kappa u / p, with kappa that of "
        "the matrix of now.",
        "derived: a congruence",
        judges.basis_is_accurate,
    ),
    Claim(
        "R15",
        "Padding by the identity does not change a root with a ridge relative to the largest eigenvalue by more than "
        "10 kappa u, whatever the scale of the matrix.",
        GOOGLE + " ([[M, 0], [0, I]] in batches)",
        judges.identity_padding,
    ),
    Claim(
        "R15-zeros",
        "Padding by zeros does not.",
        GOOGLE + " (rows from padding_start on)",
        judges.zero_padding,
    ),
    Claim(
        "R15-entries",
        "Where it does not, every entry of the root agrees to five percent.",
        GOOGLE + " (test: rtol 0.05, atol 0)",
        judges.entries_agree,
    ),
    Claim("R15-here", "Padding that the package is told of does not.", "derived", judges.sized_padding),
    Claim(
        "R18",
        "The rational minimax iteration has errors of at most 3 kappa eps / p in the 2-norm, eps = 2^-23.",
        "init2winit, pth_inv_root_rmn (bound of its tests); here with the package's coefficients",
        judges.minimax_bound,
    ),
    Claim(
        "R19",
        "For a matrix of low rank with noise of up to 1e-7 of it, leaving out eigenvalues up to n eps times the "
        "largest is better than a ridge of 1e-6: the update has a smaller error.",
        META + " (PseudoInverseConfig); R. Anil in issue 265",
        judges.truncation_of_low_rank,
    ),
    Claim(
        "R19-full",
        "It does no harm where the rank is full: with a condition number of 1e6 the root is right to ten percent.",
        META + " (rank_rtol None)",
        judges.truncation_of_full_rank,
    ),
    Claim(
        "R27",
        "A basis that makes one QR step every ten updates gives a root that is right to ten percent, for statistics "
        "that are stationary and for such that turn by 0.001 rad in an update.",
        SOAP,
        judges.tracked_root,
    ),
    Claim(
        "R27-update",
        "It gives an update that is right to ten percent.",
        SOAP,
        judges.tracked_update,
    ),
    Claim(
        "R27-jump",
        "So does one QR step from eigenvectors that are turned by up to 0.01 rad.",
        SOAP,
        judges.turned_basis,
    ),
    Claim(
        "R27-basis",
        "With an eigen-decomposition in that basis the error is at most 10 kappa u / p.",
        "derived: a congruence",
        judges.tracked_congruence,
    ),
    Claim(
        "R7",
        "Coupled Newton in float32 is more than twice as accurate as an eigen-decomposition in float32, by whatever "
        "routine, for condition numbers from 1e4 on.",
        GOOGLE + " (reason for its default)",
        judges.newton_beats_all_routines,
    ),
    Claim(
        "R7-divide",
        "It is more than twice as accurate as divide and conquer, which JAX calls on a CPU.",
        "derived from R7",
        judges.newton_beats_divide_and_conquer,
    ),
    Claim(
        "cut",
        "A cut-off relative to the largest eigenvalue of a batch leaves the root of a matrix as it is beside one that "
        "is 1e7 times as large.",
        "google-research/precondition, tearfree",
        judges.batch_cut,
    ),
    Claim(
        "outcomes",
        "No published rule gives a wrong root that its caller takes.",
        "implicit",
        judges.published_outcomes,
    ),
    Claim(
        "outcomes-here",
        "No method of the package does, nor one of other people's in its adapter.",
        "derived",
        judges.outcomes_here,
    ),
)


def answer(rows: list[Row]) -> str:
    """The sentence below the question.

    Args:
        rows: all.

    Returns:
        It.
    """
    inputs = [row for row in of(rows, Part.INPUTS) if row["subject"] in {*PUBLISHED, *USERS}]
    silent = sum(row["outcome"] == "silent" for row in inputs)
    certified = sum(row["outcome"] == "silent" and row["certified"] for row in inputs)
    wrong = of(rows, Part.EXPONENTS, subject="optax", p=3, condition=1e4)
    warm = of(rows, Part.WARM, subject="previous_root", p=4, condition=1e4, change=1e-3)
    return (
        f"On {len(INPUTS)} inputs and p in {POWERS} {silent} of {len(inputs)} roots of {len(PUBLISHED)} published and "
        f"{len(USERS)} plain rules are wrong, and taken; the certificate passes {certified} of these. The largest "
        f"entry of |M - I| says nothing: optax's root for p = 3 is off by {typical(wrong, 'error'):.0%} and reported "
        f"as {typical(wrong, 'reported'):.0e}, a warm start off by {typical(warm, 'error'):.0%} as "
        f"{typical(warm, 'reported'):.0e}."
    )
