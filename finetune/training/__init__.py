"""Training as a job: rows and checkpoints laid out, a trainer's process watched, results kept."""
