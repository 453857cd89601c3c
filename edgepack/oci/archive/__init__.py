"""Image archives: one tar that is an OCI layout and what ``docker load`` reads."""
