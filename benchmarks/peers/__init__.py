"""The contenders of `ocr_peers.py`: each reads a folder of images into a folder of texts."""
