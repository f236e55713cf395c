"""What the course builds, month by month. Functions and classes marked `@exercise` can be the learner's own."""
