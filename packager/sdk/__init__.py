"""The Python API: what ``import packager`` gives, and what scripts written for Azure's SDK call."""
