"""What is looked at before anything is trained: row by row, and over the whole dataset."""
