"""How the form of an answer is chosen where DRF's way does not fit."""

from __future__ import annotations

from collections.abc import Sequence

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class NamedInQuery(DefaultContentNegotiation):
    """`?format=` says what is sent, whatever `Accept` asks for; errors are JSON as ever."""

    def select_renderer(
        self,
        request: Request,
        renderers: Sequence[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type
