"""Devices, as the workstation knows them: who they are, what was deployed to them, and what a broker lets them do."""
