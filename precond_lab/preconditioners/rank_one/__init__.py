"""Updates of rank one: an inverse carried from step to step, and the closed forms of Eva and its kin."""

from precond_lab.preconditioners.rank_one import mkor
from precond_lab.preconditioners.rank_one.averages import AVERAGES, average_step, average_vector, start_average
from precond_lab.preconditioners.rank_one.batches import cases_last, run_cases
from precond_lab.preconditioners.rank_one.catalog import METHODS, SETTINGS, recursion
from precond_lab.preconditioners.rank_one.clipping import kl_clip, norm_graft
from precond_lab.preconditioners.rank_one.dense import sherman_morrison
from precond_lab.preconditioners.rank_one.eva import eva, eva_f, eva_s, eva_split
from precond_lab.preconditioners.rank_one.factored import Outcome
from precond_lab.preconditioners.rank_one.layers import Vectors, convolution_vectors, layer_vectors
from precond_lab.preconditioners.rank_one.online_newton import newton_step, run_newton, start_newton
from precond_lab.preconditioners.rank_one.recursion import Recursion, run
from precond_lab.preconditioners.rank_one.refinement import (
    Refined,
    elimination,
    refined_sherman_morrison_solve,
    sherman_morrison_solve,
)
from precond_lab.preconditioners.rank_one.roots import apply_root, apply_root_split, rank_one_root
from precond_lab.preconditioners.rank_one.sketches import run_sketch, sketch_step, sketched_direction, start_sketch
from precond_lab.preconditioners.rank_one.woodbury import woodbury

__all__ = [
    "AVERAGES",
    "METHODS",
    "SETTINGS",
    "Outcome",
    "Recursion",
    "Refined",
    "Vectors",
    "apply_root",
    "apply_root_split",
    "average_step",
    "average_vector",
    "cases_last",
    "convolution_vectors",
    "elimination",
    "eva",
    "eva_f",
    "eva_s",
    "eva_split",
    "kl_clip",
    "layer_vectors",
    "mkor",
    "newton_step",
    "norm_graft",
    "rank_one_root",
    "recursion",
    "refined_sherman_morrison_solve",
    "run",
    "run_cases",
    "run_newton",
    "run_sketch",
    "sherman_morrison",
    "sherman_morrison_solve",
    "sketch_step",
    "sketched_direction",
    "start_average",
    "start_newton",
    "start_sketch",
    "woodbury",
]
