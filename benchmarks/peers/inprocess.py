"""What the model alone can do: JSON in, ``session.run`` on one thread, JSON out, nothing else.

``inprocess.py MODEL BODY SECONDS`` prints runs a second, and runs a second of processor time.
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import orjson


def main(model: str, body: bytes, seconds: float) -> None:
    """Run for so long, after a tenth of it to warm up."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0]
    dtype = np.float64 if "double" in first.type else np.float32

    def rates(duration: float) -> tuple[float, float]:
        runs = 0
        started, used = time.perf_counter(), time.process_time()
        while (took := time.perf_counter() - started) < duration:
            rows = np.array(orjson.loads(body)["data"], dtype=dtype)
            orjson.dumps(session.run(["probabilities"], {first.name: rows})[0], option=orjson.OPT_SERIALIZE_NUMPY)
            runs += 1
        return runs / took, runs / (time.process_time() - used)

    rates(seconds / 10)
    print(*rates(seconds))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).read_bytes(), float(sys.argv[3]))
