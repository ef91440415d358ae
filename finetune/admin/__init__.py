"""The console's pages of fine-tuning: datasets, what is in them, and where they come from."""

from finetune.admin import datasets, from_reviews, imports, versions

__all__ = ["datasets", "from_reviews", "imports", "versions"]
