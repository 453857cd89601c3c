"""What ``python -m edge_server.security`` does: makes keys, secrets and tokens."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from edge_server.config.command_line import CommandLine
from edge_server.errors import BadRequest, ConfigurationError, MissingFileError, ScoringError
from edge_server.security import jwt, keys
from edge_server.security.token_rules import hs256, read_rules
from edge_server.security.tokens import Tokens

HOUR = 3600
TEN_YEARS = 10 * 365 * 24 * HOUR


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one thing; return the exit code: 0 done, 1 failed, 2 wrong input, 3 not found."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ScoringError as error:
        sys.stderr.write(f"edge_server.security: {error}\n")
        return error.exit_code
    return 0


def _keys_new(options: argparse.Namespace) -> None:
    _must_be_new(options.file, "regenerate one key instead, so that clients can go on with the other")
    made = {name: keys.new_key() for name in keys.NAMES}
    _write(options.file, orjson.dumps(keys.document(**{name: keys.digest_of(key) for name, key in made.items()})))
    _show(orjson.dumps(made).decode())


def _keys_regenerate(options: argparse.Namespace) -> None:
    former = keys.read_keys(options.file)
    key = sys.stdin.readline().strip() if options.stdin else keys.new_key()
    digests = {name: f"sha256:{getattr(former, name).hex()}" for name in keys.NAMES}
    _write(options.file, orjson.dumps(keys.document(**{**digests, options.name: keys.digest_of(key)})))
    _show(orjson.dumps({options.name: key}).decode())


def _token_secret(options: argparse.Namespace) -> None:
    _must_be_new(options.file, "remove it first, if no token that it made is in use")
    _write(options.file, keys.new_key().encode("ascii"))


def _token_new(options: argparse.Namespace) -> None:
    rules = read_rules(options.file)
    now = int(time.time())
    claims = {"aud": rules.audience, "iat": now, "exp": now + options.seconds}
    if rules.issuer is not None:
        claims["iss"] = rules.issuer
    if rules.algorithm == "HS256":
        token = jwt.make("HS256", claims, lambda signed: hs256(rules.secret, signed))
    elif options.private_key is None:
        raise ConfigurationError(str(options.file), ["takes EdDSA tokens: name the key with --private-key FILE"])
    else:
        token = jwt.make("EdDSA", claims, _signer(options.private_key))
    try:
        Tokens(rules).check(token.encode("ascii"), now)
    except BadRequest as error:
        raise ConfigurationError(
            str(options.file), [f"does not take the token that was made: {error.message}"]
        ) from None
    _show(token)


def _signer(path: Path) -> Callable[[bytes], bytes]:
    """Read an Ed25519 private key in PEM."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise ScoringError("making EdDSA tokens needs the package cryptography; install it") from None
    content = _read(path)
    try:
        key = load_pem_private_key(content, password=None)
    except (TypeError, ValueError):  # TypeError: it has a passphrase
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(str(path), ["must be an Ed25519 private key in PEM, without passphrase"])
    return key.sign


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"there is no private key at {path}; check the path") from None
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read ({error.strerror})"]) from None


def _must_be_new(path: Path, instead: str) -> None:
    if path.exists():
        raise ConfigurationError(str(path), [f"exists already; {instead}"])


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. A new file is readable by its owner only; an existing one keeps mode and owner.
    A link stays, and the file that it leads to is replaced. A device or pipe is not replaced.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise ConfigurationError(str(path), ["is not a regular file; give another path"])
    try:
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(number, "wb") as file:
                file.write(content + b"\n")
                if path.exists():
                    _keep(path, file.fileno())
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)  # noqa: PTH105 - a string, as mkstemp gives it
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)  # noqa: PTH108
            raise
    except OSError as error:
        raise ScoringError(f"{path} cannot be written ({error.strerror}); check the folder") from None


def _keep(path: Path, number: int) -> None:
    """Give an open file the mode and the owner of ``path``: the server that reads it may run as another user."""
    former = path.stat()
    if (former.st_uid, former.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.fchown(number, former.st_uid, former.st_gid)
    os.fchmod(number, former.st_mode & 0o777)


def _show(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = CommandLine("python -m edge_server.security", description="Make keys and tokens for a service.")
    nouns = parser.add_subparsers(required=True, metavar="keys|token")

    verbs = nouns.add_parser("keys", help="two keys, of which the service has digests only").add_subparsers(
        required=True, metavar="new|regenerate"
    )
    new = verbs.add_parser("new", help="make both keys, print them once, write their digests")
    new.add_argument("file", type=Path, metavar="FILE", help="keys.json to write")
    new.set_defaults(run=_keys_new)
    regenerate = verbs.add_parser("regenerate", help="replace one key; a running service reads it within seconds")
    regenerate.add_argument("file", type=Path, metavar="FILE", help="keys.json to change")
    regenerate.add_argument("name", choices=keys.NAMES)
    regenerate.add_argument("--stdin", action="store_true", help="take the key from standard input")
    regenerate.set_defaults(run=_keys_regenerate)

    verbs = nouns.add_parser("token", help="tokens that expire").add_subparsers(required=True, metavar="secret|new")
    secret = verbs.add_parser("secret", help="make a secret for HS256")
    secret.add_argument("file", type=Path, metavar="FILE", help="file to write")
    secret.set_defaults(run=_token_secret)
    token = verbs.add_parser("new", help="make a token that tokens.json accepts, and print it")
    token.add_argument("file", type=Path, metavar="FILE", help="tokens.json of the service")
    token.add_argument("--seconds", type=_lifetime, default=HOUR, help="how long it is valid (an hour by default)")
    token.add_argument("--private-key", type=Path, metavar="FILE", help="for EdDSA: the private key, PEM")
    token.set_defaults(run=_token_new)
    return parser


def _lifetime(text: str) -> int:
    number = int(text)
    if not 0 < number <= TEN_YEARS:
        raise argparse.ArgumentTypeError("must be above 0, and ten years at most")
    return number
