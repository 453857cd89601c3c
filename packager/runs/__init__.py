"""Training runs: what they logged and the files that they made, in folders of the workspace."""
