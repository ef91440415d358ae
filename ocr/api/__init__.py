"""The OCR app's REST views, split by noun."""
