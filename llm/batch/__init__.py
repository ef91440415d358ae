"""Many requests to one model, with many in flight: for files of them, not for people who wait."""
