"""The OpenAI API as data: bodies, and the objects that answers become. No Django, no torch."""
