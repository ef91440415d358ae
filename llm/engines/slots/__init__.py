"""A small engine of our own: continuous batching over a cache of slots, one thread a model."""
