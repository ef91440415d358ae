"""How rows are kept: packed JSON lines in pieces, any of which can be read by itself."""
