"""Retrieval: documents to pages, chunks, embeddings, indexes, and ranked evidence."""
