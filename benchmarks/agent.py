"""The resident agent: its memory and processor when idle, and how soon it does what it is for.

Limits: 30 MB (PSS) by ``crun`` and ``process``, 40 MB by ``docker``, connected to a broker, with one service; 0.5 % of
a core; from a published desired state to a healthy service 0.7 s more than the container and the server need
themselves; all of 10 services healthy within 3 s more than that, when everything was killed and the agent is started.
"""

from __future__ import annotations

IDLE_SECONDS = 30.0
ROUNDS = 5
SERVICES = 10
# What the makers or users of other agents say of them: megabytes, of what, and where that is said.
OTHERS = (
    ("Azure IoT Edge", "about 100 (edgeAgent), 300 to 500 advised for edgeHub", "iotedge issues 4545, 6983"),
    ("AWS Greengrass nucleus 2", "96 at least, and a JRE", "its documentation"),
    ("AWS Greengrass nucleus lite 2.5", "12.4 to 15.8 (PSS)", "aws-greengrass-lite/benchmark/REPORT.md"),
    ("balena-supervisor", "45 idle, 60 to 80 active, 85 to 321 after 100 days", "its issues 1300, 2193"),
    ("KubeEdge edgecore", "about 70", "its documentation"),
    ("thin-edge.io", "8 (agent) and 10 (mosquitto)", "its documentation"),
)
