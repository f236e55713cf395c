"""What the assistant knows: documents, read and searched (`service`), quoted word for word, and its silence where there is no evidence."""
