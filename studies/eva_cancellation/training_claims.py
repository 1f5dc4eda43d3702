"""How the rows of the training runs settle what is claimed of them."""

from collections.abc import Callable
from statistics import fmean, median, stdev

from precond_lab.study import Judgement, Row, Status

from .cases import Part
from .rows import CODED, PLAIN, SCALED, largest, least, of, settle


def correction(rows: list[Row], task: str, method: str) -> dict[int, float]:
    """By size of the batch, the median over seeds and windows of the medians, in them, of what is taken from G."""
    found = of(rows, Part.TRAINING, task=task, method=method)
    batches = sorted({row["batch"] for row in found})
    return {batch: median(row["correction"] for row in found if row["batch"] == batch) for batch in batches}


def negligible(task: str) -> Callable[[list[Row]], Judgement]:
    """Whether the correction as coded is below 1e-2; above 0.1 it is not, and in between nothing is settled."""

    def judge(rows: list[Row]) -> Judgement:
        shares = {batch: share for batch, share in correction(rows, task, CODED).items() if batch >= 128}
        found = of(rows, Part.TRAINING, task=task, method=CODED)
        worst = max(shares.values())
        status = Status.CONFIRMED if worst < 1e-2 else Status.REFUTED if worst > 0.1 else Status.OPEN
        figures = ", ".join(f"{share:.2g} at a batch of {batch}" for batch, share in shares.items())
        return Judgement(
            status,
            f"Median of window medians of |c b a^T| / |G|: {figures}; of sigma / gamma "
            f"{median(r['ratio'] for r in found):.2g}.",
        )

    return judge


def by_sample_corrects(rows: list[Row]) -> Judgement:
    """E5-by-sample."""
    shares = {task: correction(rows, task, SCALED) for task in ("classes", "images")}
    figures = "; ".join(f"{task}: {', '.join(f'{s:.2f}' for s in found.values())}" for task, found in shares.items())
    return settle(
        all(share > 0.1 for found in shares.values() for share in found.values()),
        f"Median of window medians of |c b a^T| / |G|: {figures}.",
    )


def final_losses(rows: list[Row], task: str, method: str, batch: int) -> list[float]:
    """The losses at the end of the runs, medians of the last window of steps, by seed."""
    found = of(rows, Part.TRAINING, task=task, method=method, batch=batch)
    last = max(row["t"] for row in found)
    return [row["loss"] for row in sorted(found, key=lambda row: row["seed"]) if row["t"] == last]


def same_as_plain(task: str) -> Callable[[list[Row]], Judgement]:
    """Whether Eva as coded ends where G / gamma with the clip ends, to within the spread of the paired difference."""

    def judge(rows: list[Row]) -> Judgement:
        figures, holds = [], True
        for batch in correction(rows, task, CODED):
            coded, plain = (final_losses(rows, task, method, batch) for method in (CODED, PLAIN))
            apart = [x - y for x, y in zip(coded, plain, strict=True)]  # first layers and minibatches are one
            spread = stdev(apart)
            holds &= abs(fmean(apart)) <= spread
            figures.append(
                f"batch {batch}: {fmean(coded):.4g} against {fmean(plain):.4g}, difference {fmean(apart):.2g}, its "
                f"standard deviation over {len(coded)} seeds {spread:.2g} (b by sample: "
                f"{fmean(final_losses(rows, task, SCALED, batch)):.4g})"
            )
        return settle(holds, f"Mean loss at the end, {'; '.join(figures)}.")

    return judge


def sigma_decays(rows: list[Row]) -> Judgement:
    """E6."""
    found = of(rows, Part.INTERPOLATION)
    last = max(row["t"] for row in found)
    ends = [row for row in found if row["t"] == last]
    if largest(ends, "loss") > 0.1:
        raise LookupError(f"a network with a loss of {largest(ends, 'loss'):.2g} does not interpolate")
    return settle(
        largest(ends, "sigma_over_first") < 0.1,
        f"After {last} steps, at losses up to {largest(ends, 'loss'):.1e}, sigma is "
        f"{least(ends, 'sigma_over_first'):.1e} to {largest(ends, 'sigma_over_first'):.1e} of what it was at the "
        f"first, over layers and seeds, while |a|^2 became up to {largest(ends, 'inputs_over_first'):.0f} times as "
        "large.",
    )


def bias_gradient(rows: list[Row]) -> Judgement:
    """E6-bias."""
    found = of(rows, Part.INTERPOLATION)
    bound = max(row["few"] for row in found) * 2.0**-24
    worst = largest(found, "bias_difference")
    return settle(
        worst <= bound,
        f"Largest |B b - g| in float32, g by automatic differentiation, over |B b| at the first step: {worst:.1e}, "
        f"where B u is {bound:.1e}.",
    )
