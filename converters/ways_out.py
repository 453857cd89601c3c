"""What to do with a model that cannot be converted faithfully: the ends of refusals that several converters share."""

from __future__ import annotations

# Nothing is converted then, so that it is open to every model.
SCRIPT = "serve the original itself by an entry script that loads it (edge-server --entry-script score.py)"
# For what only a fault of ours can cause.
REPORT_FAULT = f"report it with the file that is named here, and meanwhile {SCRIPT}"
