"""The language-model server: an engine behind OpenAI's API, without database, broker or jobs."""
