"""What stays out of an image without being listed: caches, version control, environments, files with secrets."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.layers.ignore import IGNORE_FILE, Pattern


@dataclass(frozen=True)
class DefaultIgnore:
    """Names below a folder that stay out, and why; a folder that has one of the ``marks`` in it is one of them."""

    name: str
    patterns: tuple[str, ...]
    reason: str
    marks: tuple[str, ...] = ()
    _compiled: tuple[Pattern, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", tuple(Pattern(text) for text in self.patterns))

    def matches(self, path: str) -> bool:
        """Whether ``path`` is one of them; not whether it is below one."""
        return any(pattern.matches_itself(path) for pattern in self._compiled)


DEFAULTS = (
    DefaultIgnore(
        "version-control",
        ("**/.git", "**/.hg", "**/.svn", "**/.bzr"),
        "the history of the sources, with all that was ever in them",
    ),
    DefaultIgnore(
        "caches",
        (
            "**/__pycache__", "**/.mypy_cache", "**/.ruff_cache", "**/.pytest_cache", "**/.hypothesis", "**/.tox",
            "**/.nox", "**/.cache", "**/.ipynb_checkpoints", "**/.DS_Store",
        ),
        "what tools make again",
    ),
    DefaultIgnore(
        "environments",
        ("**/.venv",),
        "an environment for another machine; the image has its own",
        marks=("pyvenv.cfg", "conda-meta"),
    ),
    DefaultIgnore(
        "secrets",
        (
            "**/.env", "**/.env.local", "**/.env.*.local", "**/.env.development", "**/.env.test", "**/.env.staging",
            "**/.env.production", "**/.envrc", "**/.ssh", "**/id_rsa", "**/id_dsa", "**/id_ecdsa", "**/id_ecdsa_sk",
            "**/id_ed25519", "**/id_ed25519_sk", "**/.gnupg", "**/.netrc", "**/_netrc", "**/.pypirc", "**/.npmrc",
            "**/.git-credentials", "**/.pgpass", "**/.my.cnf", "**/.docker/config.json", "**/.dockercfg",
            "**/.dockerconfigjson", "**/.aws", "**/.azure", "**/.kube", "**/.config/gcloud", "**/.vault-token",
            "**/.streamlit/secrets.toml", "**/*.p12", "**/*.pfx", "**/*.jks", "**/*.keystore", "**/*.kdbx", "**/*.ppk",
        ),
        "passwords, tokens and private keys; give them to the service on the device",
    ),
    DefaultIgnore("settings", (f"**/{IGNORE_FILE}",), "what this page describes"),
)  # fmt: skip
