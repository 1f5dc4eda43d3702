"""What is claimed of wider bands."""

from collections.abc import Callable

from precond_lab.study import Claim, Judgement, Row

from . import judges

SONEW = "SONew (Devvrit et al., NeurIPS 2023, arXiv 2311.10085)"


def _claim(name: str, sentence: str, source: str, judge: Callable[[list[Row]], Judgement]) -> Claim:
    return Claim(name, sentence, source, judge)


CLAIMS = (
    _claim(
        "C1",
        "The closed form of the tridiagonal projection is the optimum, and exists exactly if every s is positive.",
        SONEW + ", theorem on the tridiagonal solution",
        judges.closed_form(chain=True),
    ),
    _claim(
        "C2",
        "So it is for bands of 2 to 10, with tr(X H) = n and det X^-1 = prod s = prod cliques / prod separators; s_j "
        "does not increase with b, and b = n - 1 gives X = H^-1.",
        SONEW + ", theorem on the banded solution; identities derived",
        judges.closed_form(chain=False),
    ),
    _claim(
        "C7-band",
        "With at most b gradients every s_j (j <= n - b) of a band b is zero or undefined, and identical adjacent "
        "histories give such an s_j, for b up to 10.",
        SONEW + ", theorem on degenerate inputs",
        judges.degenerate,
    ),
    _claim(
        "C7-band-computed",
        "Algorithm 3 at a tolerance of 2u recognizes them in low precision: of the windows of at most b gradients "
        "fewer than 1% survive.",
        "derived",
        judges.degenerate_computed,
    ),
    _claim(
        "C11",
        "In exact arithmetic, for positive semidefinite windows of any band, one pass of Algorithm 3 leaves no vertex "
        "that fails, and no s becomes smaller.",
        SONEW + ", theorem on Algorithm 3",
        judges.one_pass_exact("semidefinite"),
    ),
    _claim(
        "C11-indefinite",
        "It does for windows whose entries are off by a little, as rounding leaves them, too.",
        "derived",
        judges.one_pass_exact("indefinite"),
    ),
    _claim(
        "C12",
        "One pass of Algorithm 3 as printed leaves no vertex that fails, for bands of two and more in low precision.",
        SONEW + ", Algorithm 3",
        judges.one_pass_computed,
    ),
    _claim(
        "C12-gradients",
        "It does so on the statistics of real gradients.",
        SONEW + ", Algorithm 3",
        judges.one_pass_on_gradients,
    ),
    _claim(
        "C12-iterated",
        "Iterated, it reaches a fixed point within n passes, with every s > gamma H_ii and every D positive, finite "
        "unless 1 / s overflows.",
        "derived",
        judges.iterated,
    ),
    _claim(
        "C12-pivots",
        "With s as the last pivot of the elimination, and windows without positive pivots failing as well, one pass "
        "suffices for every band, in any rounding.",
        "derived",
        judges.pivots,
    ),
    _claim(
        "C13-band",
        "Without Algorithm 3 wider bands fail in bfloat16 on real gradient statistics; with it, solved in that form, "
        "they give finite descent directions.",
        SONEW,
        judges.survives,
    ),
    _claim(
        "C14-band",
        "For bands of two and more too, in at least nine cases of ten, a tolerance of 2u gives a cosine of at least "
        "0.98 to the exact direction on the reduced graph in bfloat16.",
        "derived",
        judges.accuracy,
    ),
    _claim(
        "C15-band",
        "For wider bands too, float32 arithmetic on statistics stored in bfloat16 does not replace a tolerance tied to "
        "the storage format.",
        "derived",
        judges.wide_arithmetic,
    ),
    _claim(
        "C20",
        "The state of the optimizer takes 2 numbers a parameter for the diagonal, 3 for the tridiagonal and b + 2 for "
        "a band.",
        SONEW,
        judges.state,
    ),
    _claim(
        "C20-temporaries",
        "The direction of any band can be computed with temporaries smaller than the statistics, without a tensor of "
        "(b + 1)^2 numbers a parameter.",
        "derived; the published code forms that tensor",
        judges.temporaries,
    ),
    _claim(
        "C23",
        "On a chain of bfloat16 statistics tolerance 0 drops 55 to 80% of the edges at the first step and 2u more than "
        "85%; from t = 10 on at most 24% and 33% in the first layer, 19% and 22% in the others.",
        "derived",
        judges.edge_rates,
    ),
    _claim(
        "C23-band",
        "The wider the band, the larger the share of its edges that is dropped.",
        "derived",
        judges.edges_of_bands,
    ),
    _claim(
        "masked",
        "Striking out the entries of L of dropped edges, without solving again, gives the optimum of the reduced "
        "graph.",
        SONEW + ", published code of October 2022",
        judges.masking,
    ),
    _claim(
        "masked-gradients",
        "On real gradient statistics, for b > 1, it gives a direction with a cosine of at least 0.98 to the exact one "
        "in at least nine cases of ten.",
        SONEW + ", published code of October 2022",
        judges.masking_of_gradients,
    ),
)
