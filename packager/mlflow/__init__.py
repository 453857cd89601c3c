"""Models of MLflow: its folders, which are read without it, and its runs and registries, which its client fetches."""
