"""Reply streams: how the events of a request come from the worker back to the web process.

Each web process has one stream. A worker gathers what its requests have to say and writes one
entry a stream at a time: to Redis, where that is the broker, else into `RelayEntry` rows.
"""
