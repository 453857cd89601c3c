"""The agent as one file: how it starts, and how a new version takes its place, or gives it back."""
