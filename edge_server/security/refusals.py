"""How a request without a valid key or token is refused: RFC 6750, section 3.

| case | status | error code |
|---|---|---|
| no ``Authorization``, or of another scheme | 401 | none: section 3.1 wants no code where nothing was tried |
| several ``Authorization`` headers | 400 | ``invalid_request`` |
| a key or token that is malformed, unknown, expired, not valid yet, of another issuer | 401 | ``invalid_token`` |
| a genuine token that was made for another service | 403 | ``insufficient_scope`` |
| too many tokens with wrong signatures | 429 | none |

Clients of Azure get a new key or token after 401 and try once more; after 403, where that would not help, they do not.
The body is ``{"message": …}`` as for every other refusal.
"""

from __future__ import annotations

from edge_server.errors import BadRequest

_CHALLENGE = 'Bearer realm="scoring"'


def nothing_tried() -> BadRequest:
    """The refusal of a request without a key or token."""
    return _refusal(401, "this service asks for a key or token in the header: Authorization: Bearer <key or token>")


def ambiguous(message: str) -> BadRequest:
    """The refusal of an ambiguous request."""
    return _refusal(400, message, "invalid_request")


def invalid(message: str) -> BadRequest:
    """The refusal of a key or token that is invalid, expired or not valid yet."""
    return _refusal(401, message, "invalid_token")


def forbidden(message: str) -> BadRequest:
    """The refusal of a valid token that does not allow this service."""
    return _refusal(403, message, "insufficient_scope")


def too_many() -> BadRequest:
    """The refusal to verify another signature now."""
    return BadRequest("too many tokens with wrong signatures; try again in a second", 429, [(b"retry-after", b"1")])


def _refusal(status: int, message: str, error: str = "") -> BadRequest:
    challenge = f'{_CHALLENGE}, error="{error}", error_description="{message}"' if error else _CHALLENGE
    return BadRequest(message, status, [(b"www-authenticate", challenge.encode("ascii"))])
