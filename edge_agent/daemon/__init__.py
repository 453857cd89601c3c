"""The resident agent: it watches services, starts again what ended, and starts a job for everything else."""
