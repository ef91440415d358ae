"""Where in a passage the words of a query stand."""

from __future__ import annotations

from llm.retrieval.terms import asked_terms, placed_terms


def marks(text: str, query: str) -> list[list[int]]:
    """[[start, end], …] in code points of `text`, in order, none touching another."""
    wanted = set(asked_terms(query))
    found: list[list[int]] = []
    for term in placed_terms(text):
        if term.text not in wanted:
            continue
        if found and term.start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], term.end)
        else:
            found.append([term.start, term.end])
    return found
