"""Says in plain data what a stored run came to, as the shell prints it."""

import sys
from dataclasses import asdict
from typing import Any

from precond_lab.study.claims import JudgedClaim, judge_claims
from precond_lab.study.declaration import Status, Study
from precond_lab.study.provenance import StoredRun, nearby
from precond_lab.study.runner import being_written


def claim(judged: JudgedClaim) -> dict[str, str]:
    """A judged claim.

    Args:
        judged: The claim.

    Returns:
        Its fields as text.
    """
    declared, (status, figure) = judged
    return {
        "name": declared.name,
        "status": status.value,
        "figure": figure,
        "sentence": declared.sentence,
        "source": declared.source,
    }


def counts(stored: StoredRun) -> dict[str, int]:
    """The cases of a run by what became of them.

    Args:
        stored: The run.

    Returns:
        Numbers of `cases`, `ok`, `failed` and `missing`.
    """
    source = stored.provenance
    ok, failed, missing = source.cases_ok, source.cases_failed, source.cases_missing
    return {"cases": ok + failed + missing, "ok": ok, "failed": failed, "missing": missing}


def overview(stored: StoredRun) -> dict[str, Any]:
    """How a run stands.

    Args:
        stored: The run.

    Returns:
        Plain data for JSON.
    """
    unfinished = stored.provenance.cases_missing > 0
    return {
        "study": stored.meta.study,
        "run": stored.label,
        "state": "running" if being_written(stored.path) else "unfinished" if unfinished else "complete",
        **counts(stored),
        "started": stored.meta.begun,
        "resumed": stored.meta.resumed,
        "compute_seconds": stored.provenance.compute_seconds,
        "rows": str(stored.path.resolve()),
        "options": asdict(stored.meta.options),
        "failures": failures(stored),
    }


def failures(stored: StoredRun) -> list[dict[str, Any]]:
    """The failed cases.

    Args:
        stored: The run.

    Returns:
        The parameters of each with the last line of its traceback.
    """
    found = stored.provenance.failures
    return [{"parameters": failure.parameters, "reason": failure.reason} for failure in found]


def failure_lines(found: list[dict[str, Any]]) -> list[str]:
    """Failed cases for a person.

    Args:
        found: As `failures` gives them.

    Returns:
        One line each.
    """
    return [
        f"Failed: {', '.join(f'{name}={value}' for name, value in failure['parameters'].items())}: {failure['reason']}"
        for failure in found
    ]


def sentences(found: dict[str, Any]) -> list[str]:
    """A summary for a person.

    Args:
        found: As `summary` gives it.

    Returns:
        Lines: cases, failures (of many the first five), question, answer, claims, file of rows.
    """
    lines = [f"{found['study']} ({found['run']}): {found['ok']} of {found['cases']} cases measured"]
    lines += failure_lines(found["failures"][:5])
    if found["failed"] > 5:
        lines.append(f"Failed: {found['failed'] - 5} more; see: precond-lab status {found['study']}")
    if found["answer"] is not None:
        lines += [f"Question: {found['question']}", f"Answer: {found['answer']}"]
    if found["claims"]:
        statuses = [claim["status"] for claim in found["claims"]]
        tally = ", ".join(f"{statuses.count(status.value)} {status.value}" for status in Status)
        lines.append(f"Claims: {tally}")
    return [*lines, f"Rows: {nearby(found['rows'])}"]


def answer(study: Study, stored: StoredRun) -> str | None:
    """The answer to the question of a study, as far as the rows give one.

    Args:
        study: The study.
        stored: The run.

    Returns:
        One sentence, or None.
    """
    try:
        return study.answer(stored.rows) if stored.rows else None
    except Exception as error:  # noqa: BLE001  the rows may not suffice; whatever the study raises says why
        print(f"the answer could not be formed: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def _judged(study: Study, stored: StoredRun) -> list[JudgedClaim]:
    found = stored.provenance
    return judge_claims(study, stored.rows, found.cases_missing, found.cases_failed)


def summary(study: Study, stored: StoredRun) -> dict[str, Any]:
    """All that a person or a program wants to know after a run.

    Args:
        study: The study.
        stored: The run.

    Returns:
        Plain data for JSON.
    """
    claims = _judged(study, stored)
    return {
        "study": study.name,
        "run": stored.label,
        "question": study.question,
        "answer": answer(study, stored),
        **counts(stored),
        "claims": [claim(judged) for judged in claims],
        "failures": failures(stored),
        "rows": str(stored.path.resolve()),
        "command": stored.provenance.command,
    }


def ledger(study: Study, runs: list[StoredRun]) -> list[dict[str, str]]:
    """The claims of a study over each of its runs; a quick run says nothing beside the full run of its data.

    Args:
        study: The study.
        runs: Its runs. Those of other versions of the study are left out.

    Returns:
        One entry for each run and claim; without any run the claims are open.
    """
    present = {run.label: run for run in runs if run.meta.version == study.version}
    chosen = {
        label: _judged(study, run)
        for label, run in present.items()
        if not (run.meta.options.quick and label.replace("quick", "full", 1) in present)
    }
    chosen = chosen or {"none": judge_claims(study, [])}
    return [{"study": study.name, "run": label, **claim(judged)} for label, found in chosen.items() for judged in found]
