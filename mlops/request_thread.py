"""The thread that asgiref has for a request's synchronous code, and how to be rid of it."""

from __future__ import annotations

from asgiref.sync import SyncToAsync
from django.db import connections


def request_thread_end() -> None:
    """Called when a stream begins: its request's thread would wait for the stream's end.

    That is a tenth of a megabyte of stack and, where the database was asked before, a connection
    out of few. Whatever needs a thread later gets another.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is not None and context in SyncToAsync.context_to_thread_executor:
        thread = SyncToAsync.context_to_thread_executor.pop(context)
        # Nobody else can: a connection is its thread's own.
        thread.submit(connections.close_all)
        thread.shutdown(wait=False)
