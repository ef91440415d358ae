"""Model cards, made from what is known of a version."""

from __future__ import annotations

from typing import Any

from finetune.models import ModelVersion, TrainingJob


def model_card(version: ModelVersion, job: TrainingJob) -> str:
    """Markdown after the model cards of the hub: what it is, from what, how, how good."""
    facts = version.facts
    data = job.dataset_version
    rows = [
        ("Method", job.get_method_display()),
        ("Form", version.get_form_display()),
        ("Base model", job.base_name or "none: new weights"),
        ("Data", job.dataset_label),
        ("Rows", _rows(data.split_counts) if data else ""),
        ("SHA-256 of the rows", facts.get("dataset_sha256", "")),
        ("Licence of the data", data.licence if data else ""),
        ("Steps", facts.get("steps")),
        _seen(version, job),
        ("Device", job.device),
        ("Made by", str(job.owner or "")),
        ("Job", str(job.pk)),
        ("MLflow run", job.mlflow_run_id),
    ]
    parts = [
        f"# {version}\n",
        _table(("", ""), [(name, value) for name, value in rows if value]),
        "## Figures\n",
        _table(("Figure", "Value"), sorted(facts.get("metrics", {}).items())),
        "## Parity\n",
        _parity(version),
        "## Options\n",
        _table(("Option", "Value"), sorted(job.options.items())),
        "## Libraries\n",
        _table(("Library", "Version"), sorted(facts.get("libraries", {}).items())),
    ]
    return "\n".join(parts)


def _seen(version: ModelVersion, job: TrainingJob) -> tuple[str, str]:
    if version.form == ModelVersion.Form.RECOGNISER:
        return "Lines seen", f"{job.rows_seen:,}"
    return "Tokens trained on", f"{version.facts.get('trained_tokens', 0):,}"


def _rows(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items())


def _table(head: tuple[str, str], rows: list[tuple[str, Any]]) -> str:
    if not rows:
        return "None.\n"
    lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |"]
    for name, value in rows:
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        lines.append(f"| {name} | {shown.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def _parity(version: ModelVersion) -> str:
    found = version.parity
    if not found:
        return "Not checked.\n"
    sides = [
        (name, f"{side['max_difference']:.2g}")
        for name, side in found.items()
        if isinstance(side, dict) and "max_difference" in side
    ]
    verdict = "Fit" if found.get("fit") else "Unfit"
    unit = "scores" if version.form == ModelVersion.Form.RECOGNISER else "log-probabilities"
    return (
        f"{verdict}: what was trained against what is served, in {unit}, may differ by "
        f"{found.get('tolerance')}.\n\n" + _table(("Against", "Largest difference"), sides)
    )
