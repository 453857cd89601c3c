"""Names of other packages that entry scripts import, by code of ours; `scripts.shims` puts them in their places."""
