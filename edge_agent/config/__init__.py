"""The configuration of the agent: values, the file that they are read from, and its schema."""
