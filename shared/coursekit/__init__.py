"""What builds, checks, grades and promotes the course's notebooks: the `course` command."""
