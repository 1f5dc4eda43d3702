"""The pictures of the study, each drawn from its own table."""

from precond_lab.study import Figure

from .bound_figures import bounds_table, draw_bounds
from .law_figures import draw_losses, draw_stagnation, draw_tilt, losses_table, stagnation_table, tilt_table
from .map_figures import (
    draw_map,
    draw_ranking,
    draw_thresholds,
    ranking_table,
    survival_table,
    thresholds_table,
    where_table,
)

KEY = (
    "Colors: median over seeds of the largest relative error along the run. Red: at least half of the runs lose "
    "positive "
    "definiteness; orange: some do. Dashed: condition number 1/u. Gray: not measured."
)

FIGURES = (
    Figure(
        "survival",
        "What survives: forms, formats, condition numbers",
        f"The state is kept in the format between steps, the rest is float32; eigenvectors in general position. {KEY}",
        survival_table,
        draw_map,
    ),
    Figure(
        "where",
        "The same by what is rounded, and along which axes",
        f"Above: eigenvectors in general position. Below: along the axes, where rounding is relative in every entry "
        f"of a "
        f"floating format, but not of int8 with one scale for all. {KEY}",
        where_table,
        draw_map,
    ),
    Figure(
        "ranking",
        "Fixes, ranked",
        "Median of the largest relative error of P; forms in the order of survival and error in bfloat16. Red "
        "crosses: at "
        "least half of the runs lose positive definiteness.",
        ranking_table,
        draw_ranking,
    ),
    Figure(
        "losses",
        "First losses against their laws",
        "Each mark is a run. On the black line the law is exact, in the gray band it is within 25 percent.",
        losses_table,
        draw_losses,
    ),
    Figure(
        "tilt",
        "How the antisymmetric part grows",
        "What is exactly symmetric is not drawn. A form that reads one triangle, or both products, has nothing that "
        "grows.",
        tilt_table,
        draw_tilt,
    ),
    Figure(
        "stagnation",
        "A sum in few digits freezes",
        "beta = 1, 16 by 16: errors of the inverse of a sum of outer products. The law has no parameter to fit.",
        stagnation_table,
        draw_stagnation,
    ),
    Figure(
        "thresholds",
        "From which condition number on the inverse itself is lost",
        "Left: the share of runs that are lost, against kappa u; colors for the memory of the average, lines for "
        "the order. Right: the median over seeds of where losses begin.",
        thresholds_table,
        draw_thresholds,
    ),
    Figure(
        "bounds",
        "Certificates and bounds",
        "Above: the largest margin that the certificate of rounding gave a matrix that rounding then lost, and what "
        "errors of "
        "relative size eta in every step come to. Below: how much of its bound the error of one update takes up, and "
        "backward errors before and after refinement (dotted: u).",
        bounds_table,
        draw_bounds,
    ),
)
