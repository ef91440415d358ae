"""What the model servers share: how they start, stop, count, refuse, and whom they let in."""
