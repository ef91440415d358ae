"""Which engine reads a page: the one asked for, the default, or one that knows the language."""

from __future__ import annotations

from dataclasses import dataclass

from mlops.engines import EngineSpec
from mlops.exceptions import ApplicationError
from ocr.languages import AUTO


@dataclass(frozen=True, slots=True)
class Choice:
    """`note` says why, when it isn't the default or the one asked for."""

    engine: str
    languages: tuple[str, ...]
    note: str = ""


def choose(
    specs: dict[str, EngineSpec], *, engine: str, languages: tuple[str, ...], default: str
) -> Choice:
    """Raises ApplicationError for an unknown engine, or if none reads these languages together."""
    if engine not in ("auto", *specs):
        raise ApplicationError(
            f"There is no engine '{engine}'. Choose one of: auto, {', '.join(sorted(specs))}.",
            code="unknown_engine",
            param="engine",
        )
    wanted = default if engine == "auto" else engine
    if AUTO in languages or _reads(specs[wanted], languages):
        return Choice(wanted, languages)
    asked = "+".join(languages)
    if engine != "auto":
        able = [alias for alias, spec in specs.items() if _reads(spec, languages)]
        raise ApplicationError(
            f"The engine '{engine}' does not read '{asked}'. "
            + (f"Use engine auto, or one of: {', '.join(able)}." if able else "No engine does."),
            code="unsupported_language",
            param="language",
        )
    for alias, spec in specs.items():
        if _reads(spec, languages) and not spec.only_asked:
            return Choice(alias, languages, f"{default} does not read {asked}; {alias} does.")
    raise ApplicationError(
        f"No engine reads '{asked}' together. Ask for the languages in separate jobs.",
        code="unsupported_language",
        param="language",
    )


def _reads(spec: EngineSpec, languages: tuple[str, ...]) -> bool:
    return set(languages) <= spec.languages
