"""What an image runs: the files of the scoring server, and entry scripts, checked without running them."""
