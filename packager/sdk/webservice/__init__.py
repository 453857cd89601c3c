"""Services as scripts use them: how they are to run, and what is done with one that runs."""
