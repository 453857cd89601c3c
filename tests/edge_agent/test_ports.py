"""A port that the kernel leads elsewhere, as an engine that was killed leaves it, in a network of the test's own."""

from __future__ import annotations

import os
import sys

import pytest

from tests.edge_agent.support.agent import ROOT
from tests.support.running import run

PROGRAM = """
import socket, subprocess, sys
from edge_agent.runtimes import instances
from edgepack.errors import RuntimeFailedError
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService

instances._RULE_SECONDS = instances._ARRIVAL_SECONDS = 0.1
IMAGE = Digest.of(b"")

def rule(verb, port, to):
    words = f"-t nat {verb} OUTPUT -p tcp -d 127.0.0.1 --dport {port} -j DNAT --to-destination {to}"
    subprocess.run(["iptables", *words.split()], check=True)

def check(port, address="127.0.0.1"):
    try:
        instances.check_port(DesiredService("churn", IMAGE, port, address=address))
        print(port, "free")
    except RuntimeFailedError as error:
        print(port, error)

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
other = socket.create_server(("127.0.0.1", 7000))
rule("-A", 6001, "10.9.9.9:5001")
rule("-A", 6002, "127.0.0.1:7000")
for port in (6000, 6001, 6002, 7000):
    check(port)
check(6001, "0.0.0.0")
rule("-D", 6001, "10.9.9.9:5001")
check(6001)
for port in (6000, 6001):
    # What it tried with holds nothing: whoever listens next need not share the port.
    with socket.socket() as found:
        found.bind(("127.0.0.1", port))
"""


@pytest.mark.real("unshare", "iptables", "ip")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network of its own")
def test_a_port_that_a_rule_of_the_kernel_leads_elsewhere_is_refused_with_that_reason() -> None:
    told = run("unshare", "-n", sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{PROGRAM}")
    lines = told.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["6000", "free"], ["6001", "service"], ["6002", "service"], ["7000", "service"], ["6001", "service"],
        ["6001", "free"],
    ]  # fmt: skip
    for line in (lines[1], lines[2], lines[4]):
        assert "do not arrive there: a rule of the kernel leads them elsewhere or drops them" in line
        assert f"iptables-save | grep {line[:4]}" in line
    assert "cannot be used (Address already in use)" in lines[3]
