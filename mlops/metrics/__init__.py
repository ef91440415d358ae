"""What the platform tells Prometheus, on one page for all of its processes and machines."""
