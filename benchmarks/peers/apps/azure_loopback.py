"""Azure's server as its own command starts it, but on the loopback address."""

from azureml_inference_server_http import amlserver

amlserver.DEFAULT_HOST = "127.0.0.1"
amlserver.run()
