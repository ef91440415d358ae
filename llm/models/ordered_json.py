"""JSON whose keys stay in their order: that of a schema's properties is the answer's, too."""

from __future__ import annotations

import json
from typing import Any

from django.db import models


class OrderedJSONField(models.JSONField):
    """Kept as text: PostgreSQL's jsonb sorts keys, and refuses characters that JSON can hold.

    Nothing is looked up inside of it. What is not ASCII is escaped, half a surrogate pair too.
    """

    def db_type(self, connection: Any) -> str:
        return "text"

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> str | None:
        return None if value is None else json.dumps(value, cls=self.encoder)

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        return None if value is None else json.loads(value, cls=self.decoder)
