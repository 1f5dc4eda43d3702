"""The table that says of every primitive of JAX how an emulated arithmetic treats it."""

import enum

from precond_lab.interpreter import CALLS, MOVES


class Kind(enum.Enum):
    """How `emulate` treats a primitive on floating-point operands."""

    CALL = "calls a program, which is walked"
    MOVE = "moves elements: exact"
    EXACT = "its result is a value of the format whenever its operands are: exact"
    ROUNDED = "computed in the carrier and rounded once: correctly rounded"
    LIBRARY = "JAX's own float64 result, rounded once: right unless the exact one is within its error of a breakpoint"
    SPECIAL = "has a rule of its own (sums, products, control flow, casts)"
    INTEGER = "works on integers, booleans or random keys alone: left to JAX"
    OPAQUE = "refused: its roundings are hidden in a library routine; write it as jax.numpy operations"
    DEVICE = "refused: concerns several devices, memory spaces or effects outside of the program"
    REFUSED = "refused: it has no rule; state it in operations that have one (slices, products, x.at[i].set(f(x[i])))"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GROUPS: dict[Kind, frozenset[str]] = {
    Kind.CALL: frozenset(CALLS),
    Kind.MOVE: MOVES,
    Kind.EXACT: _names("""
        abs clamp cummax cummin eq eq_to ge gt is_finite le le_to lt lt_to max min ne neg sort
        top_k reduce_window_max reduce_window_min zeros_like add_dependency copy_to_host_async
    """),
    # floor and its kin leave a format in which 1, or the next integer, is no number
    Kind.ROUNDED: _names("add sub mul div rem sqrt add_any reciprocal ceil floor round sign"),
    Kind.LIBRARY: _names("""
        acos acosh asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt cos cosh digamma erf erf_inv erfc exp exp2
        expm1 igamma igamma_grad_a igammac lgamma log log1p log2 logistic polygamma pow
        regularized_incomplete_beta rsqrt sin sinh tan tanh zeta
    """),
    Kind.SPECIAL: _names("""
        reduce_max reduce_min empty empty2 conv_general_dilated reduce_window reduce_window_sum select_and_scatter_add
        argmax argmin bitcast_convert_type cond convert_element_type cumprod cumsum dot_general integer_pow iota
        one_minus_square polynomial reduce_precision reduce_prod reduce_sum scan scatter-add scatter-max scatter-min
        scatter-mul scatter-sub square while cumlogsumexp reduce shard_map psum psum_invariant pmax pmin all_gather
        all_gather_invariant all_gather_reduced reduce_scatter all_to_all ppermute axis_index pbroadcast
    """),
    Kind.INTEGER: _names("""
        and clz mulhi multiple_of not or population_count random_bits random_clone random_fold_in random_seed
        random_split random_unwrap random_wrap reduce_and reduce_or reduce_xor rng_bit_generator shift_left
        shift_right_arithmetic shift_right_logical threefry2x32 threefry4x32 philox2x32 philox4x32 xor iota_2x32_shape
        lu_pivots_to_permutation prng_join prng_random_bits prng_seed prng_split dim_as_value dimension_size
        from_edtype platform_index to_edtype
    """),
    Kind.OPAQUE: _names("""
        cholesky cholesky_update custom_linear_solve eig eigh fft geqp3 geqrf hessenberg householder_product lu ormqr qr
        schur svd symmetric_product triangular_solve tridiagonal tridiagonal_solve random_gamma approx_top_k
        dot_product_attention_bwd dot_product_attention_bwd_wrapper dot_product_attention_fp8_bwd
        dot_product_attention_fp8_bwd_wrapper dot_product_attention_fp8_fwd dot_product_attention_fp8_fwd_wrapper
        dot_product_attention_fwd dot_product_attention_fwd_wrapper cudnn_fusion custom_fusion ffi_call pallas_call
        tpu_custom_call scaled_dot scaled_matmul scaled_matmul_wrapper ragged_dot_general rng_uniform stochastic_round
        call_exported custom_partitioning mpmd_map
    """),
    Kind.DEVICE: _names("""
        accum_grad_in_ref addupdate after_all all_gather_done all_gather_reduced_start all_gather_start all_to_all_done
        all_to_all_start box_get box_set buffer_callback call_hi_primitive_linearized check compute_on core_map
        create_linear create_token dce_sink debug_callback debug_print delay dma_start dma_wait empty_ref free_ref
        freeze get get_barrier_semaphore get_global inspect_sharding io_callback jaxpr_call linear_call log_extend
        log_read masked_load masked_swap matmul_acc_lhs matmul_pop matmul_push_rhs new_box new_log new_ref num_programs
        pbroadcast_done pbroadcast_start pin ppermute_done ppermute_start precv preduced program_id psend psum_done
        psum_invariant_start psum_start pure_callback ragged_all_to_all reduce_scatter_done reduce_scatter_start
        reduced_vary_cast_p run_scoped run_state semaphore_read semaphore_signal semaphore_wait shape_assertion
        shard_alike stage swap trace_value unpin unreachable unreduced_psum unreduced_psum_start
        unreduced_reduce_scatter unreduced_reduce_scatter_start vary_unreduced_cast_p with_memory_space_constraint
        xla_metadata_value fusible remat_opt broadcast_to tie pbroadcast_dynamic reduced_vary_cast relayout
        unreduced_pmax unreduced_pmin vary_unreduced_cast
    """),
    Kind.REFUSED: _names("""
        bitcast complex conj custom_jvp_call_jaxpr custom_lin imag
        nextafter pack_dtype pack_elementwise real select_and_gather_add
        select_and_scatter scatter_apply unpack_dtype unpack_elementwise
    """),
}

KINDS: dict[str, Kind] = {name: kind for kind, names in _GROUPS.items() for name in names}
REFUSALS = frozenset({Kind.OPAQUE, Kind.DEVICE, Kind.REFUSED})
