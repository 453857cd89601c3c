"""The model for LitServe: one worker on the processor."""

import os
import sys

import litserve
import numpy as np
import onnxruntime as ort


class Score(litserve.LitAPI):
    def setup(self, device):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.environ["AZUREML_MODEL_DIR"] + "/model.onnx"
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        first = self._session.get_inputs()[0]
        self._name = first.name
        self._dtype = np.float64 if "double" in first.type else np.float32

    def decode_request(self, request):
        return np.array(request["data"], dtype=self._dtype)

    def predict(self, rows):
        return self._session.run(["probabilities"], {self._name: rows})[0]

    def encode_response(self, output):
        return output.tolist()


if __name__ == "__main__":
    server = litserve.LitServer(Score(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False)
