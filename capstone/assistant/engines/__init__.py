"""Three real engines behind one interface (`base`): in-process llama.cpp, transformers, and any OpenAI-compatible server."""
