"""A folder of ``sys.path`` by which the processes that a script spawns find ``azureml``."""
