"""Names of other packages that entry scripts import, by code of ours; ``compat.azure`` puts them in their places."""
