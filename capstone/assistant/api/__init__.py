"""The REST API: OpenAI's shape where OpenAI has one, and the same manners elsewhere."""
