"""`/api/v1/finetune/`: datasets, their versions, and the jobs that take them in."""
