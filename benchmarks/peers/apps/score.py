"""The entry script that Azure's server and ours run, unmodified."""

import json
import os

import numpy as np
import onnxruntime as ort


def init():
    global session, name, dtype
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    path = os.environ["AZUREML_MODEL_DIR"] + "/model.onnx"
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    dtype = np.float64 if "double" in session.get_inputs()[0].type else np.float32


def run(data):
    rows = np.array(json.loads(data)["data"], dtype=dtype)
    return session.run(["probabilities"], {name: rows})[0].tolist()
