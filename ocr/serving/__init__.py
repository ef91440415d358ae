"""The OCR model server: engines behind HTTP, without database, broker or jobs."""
