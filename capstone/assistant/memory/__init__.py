"""What was said, in conversations without end: kept, found again, and deleted when asked."""
