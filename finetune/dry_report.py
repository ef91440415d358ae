"""The report of a dry run in words and shares, for the console and the terminal."""

from __future__ import annotations

from typing import Any

from django.template.defaultfilters import filesizeformat

from mlops import display

# Parts of what memory goes to, in the order in which they are stacked.
MEMORY = {
    "weights": "Weights",
    "gradients": "Gradients",
    "optimizer": "Optimizer",
    "activations": "Activations",
    "process": "Process",
}
WIDTH = 1000


def report_view(report: dict[str, Any]) -> dict[str, Any]:
    """What the page of a dry run shows; `report` as of `finetune.engines.dry_run`."""
    memory, time, disk = report["memory"], report["time"], report["disk"]
    needed = max(memory["total"], memory["measured"] or 0)
    return {
        "report": report,
        # A recogniser has no tokens.
        "unit": "characters" if "characters" in report else "tokens",
        "alphabet": report.get("characters", {}).get("text", ""),
        "unknown": report.get("characters", {}).get("only_in_validation", ""),
        "examples": report["examples"],
        "warnings": report["warnings"],
        "truncated": f"{report['truncated']:.1%}",
        "steps": report["steps"],
        "time": display.duration(time["seconds"]),
        "time_hint": _time_hint(time),
        "memory": filesizeformat(needed),
        "memory_kind": memory["kind"],
        "memory_hint": f"of {filesizeformat(memory['available'])} that are free",
        "memory_short": needed > memory["available"],
        "memory_parts": _parts(memory),
        "disk": filesizeformat(disk["needed"]),
        "disk_hint": f"of {filesizeformat(disk['free'])} free; {filesizeformat(disk['checkpoint'])}"
        " a checkpoint",
        "disk_short": disk["needed"] > disk["free"],
        "settings": report["settings"],
    }


def _time_hint(time: dict[str, Any]) -> str:
    each = f"{time['seconds_a_step']:.3g} s a step"
    measured = time["measured_steps"]
    return f"{each}, measured over {measured}" if measured else f"{each}, reckoned"


def _parts(memory: dict[str, Any]) -> list[dict[str, Any]]:
    """A bar of what the memory goes to, as wide as its share."""
    total = sum(memory.get(name, 0) for name in MEMORY) or 1
    parts, x = [], 0.0
    for name, title in MEMORY.items():
        size = memory.get(name, 0)
        width = WIDTH * size / total
        parts.append(
            {
                "name": name,
                "title": title,
                "bytes": filesizeformat(size),
                "x": round(x, 2),
                "width": round(width, 2),
            }
        )
        x += width
    return parts
