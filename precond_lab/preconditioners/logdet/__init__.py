r"""The LogDet projection of SONew: sparse preconditioners from the band of the gradients' second moments.

Source: Devvrit, Duvvuri, Anil, Gupta, Hsieh, Dhillon, "A Computationally Efficient Sparsified Online Newton Method",
NeurIPS 2023 (arXiv 2311.10085), cited as SONew. The names of the modules below are names of this package, but for those
of `chordal` (any chordal graph, by its cliques), `published` and `published_bands` (what the authors' code does), which
are modules of it.
"""

from precond_lab.preconditioners.logdet import chordal, published, published_bands
from precond_lab.preconditioners.logdet.band import (
    Rule,
    block_edges,
    cut,
    edges,
    edges_between_cuts,
    multiply,
    one_norm,
    row_edges,
    within,
)
from precond_lab.preconditioners.logdet.blocks import (
    BlockFactor,
    apply_blocks,
    block_outer,
    explicit_blocks,
    inverse_blocks,
    log_det_blocks,
    objective_blocks,
    project_blocks,
    stabilize_blocks,
)
from precond_lab.preconditioners.logdet.chains import chain, unchain
from precond_lab.preconditioners.logdet.chunks import Direction, direction_in_chunks, stabilized_in_chunks
from precond_lab.preconditioners.logdet.gradient_scaling import Scaled, rescaled, scaled
from precond_lab.preconditioners.logdet.projection import (
    Factor,
    apply,
    explicit,
    factor_of,
    inverse_band,
    log_det,
    objective,
    project,
    schur_complements,
)
from precond_lab.preconditioners.logdet.sharding import direction_on_devices, stabilized_on_devices
from precond_lab.preconditioners.logdet.stabilization import Stabilization, default_tolerance, iterate, stabilize
from precond_lab.preconditioners.logdet.statistics import (
    Compensated,
    Statistics,
    add,
    add_compensated,
    average,
    average_by_increment,
    average_compensated,
    band_outer,
    compensate,
    corrected,
    damp,
    damp_absolute,
    initialize,
)

__all__ = [
    "BlockFactor",
    "Compensated",
    "Direction",
    "Factor",
    "Rule",
    "Scaled",
    "Stabilization",
    "Statistics",
    "add",
    "add_compensated",
    "apply",
    "apply_blocks",
    "average",
    "average_by_increment",
    "average_compensated",
    "band_outer",
    "block_edges",
    "block_outer",
    "chain",
    "chordal",
    "compensate",
    "corrected",
    "cut",
    "damp",
    "damp_absolute",
    "default_tolerance",
    "direction_in_chunks",
    "direction_on_devices",
    "edges",
    "edges_between_cuts",
    "explicit",
    "explicit_blocks",
    "factor_of",
    "initialize",
    "inverse_band",
    "inverse_blocks",
    "iterate",
    "log_det",
    "log_det_blocks",
    "multiply",
    "objective",
    "objective_blocks",
    "one_norm",
    "project",
    "project_blocks",
    "published",
    "published_bands",
    "rescaled",
    "row_edges",
    "scaled",
    "schur_complements",
    "stabilize",
    "stabilize_blocks",
    "stabilized_in_chunks",
    "stabilized_on_devices",
    "unchain",
    "within",
]
