"""The Enterprise Hybrid Assistant: questions of documents, answered with their sources, over an API and a page."""
