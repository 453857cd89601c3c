"""An environment that has something in each of its fields, and the conda file that Azure's documentation shows."""

from __future__ import annotations

from packager.environments.environment import Environment
from packager.environments.pip_requirements import PipRequirements

SPECIFICATION = """\
name: project_environment
dependencies:
  - python=3.6.2
  - scikit-learn=0.20.0
  - pip:
      # You must list azureml-defaults as a pip dependency
    - azureml-defaults>=1.0.45
    - inference-schema[numpy-support]
"""

FULL = Environment(
    "My_env.1",
    7,
    "==3.11.*",
    ("conda-forge",),
    ("python=3.11", "blas=*=openblas"),
    PipRequirements(
        ("numpy==1.26.4 --hash=sha256:" + "a" * 64, 'x @ git+https://${T}@g.example/x ; os_name == "posix"'),
        index_url="https://one.example/simple", extra_index_urls=("https://two.example/simple",),
        find_links=("https://links.example/", "/srv/my wheels"), trusted_hosts=("one.example:8080",),
        only_binary=(":all:",), no_binary=("pyyaml",), pre=True, prefer_binary=True, require_hashes=True,
    ),
    {"OMP_NUM_THREADS": "1", "TEXT": "привет\nмир"},
    base_image="registry.example/base:1",
    base_registry_address="registry.example",
    base_registry_username="puller",
    interpreter_path="/opt/python/bin/python",
    inferencing_stack_version="latest",
    conda_file="dependencies: []\n",
    created="2026-01-31T12:00:00Z",
)  # fmt: skip
