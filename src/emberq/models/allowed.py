"""The embedding models that a request may name: the operator decides, tenants choose among them."""

from __future__ import annotations

from emberq.config.environment import get_environment
from emberq.errors import ModelNotFound
from emberq.models.files import list_models, shown_name
from emberq.models.pins import ALIASES

#: Characters of a client's own words that an error repeats, at most.
_QUOTED_CHARS = 100


def allowed_models() -> list[str]:
    """Return the names of `EMBERQ_ALLOWED_MODELS`; the downloaded models if it is unset."""
    named = get_environment().allowed_models
    if named is None:
        return [files.name for files in list_models()]
    return [name.strip() for name in named.split(",") if name.strip()]


def is_default(asked: str, default: str) -> bool:
    """Tell whether a request asks for the tenant's own model: by its name, or by none."""
    default = ALIASES.get(default, default)
    return not asked or ALIASES.get(asked, asked) in (default, shown_name(default))


def choose_model(asked: str, default: str) -> str:
    """Return the name of the embedding model that a request asks for.

    Args:
        asked: The client's name for the model; empty for the default.
        default: The tenant's own model, from the settings.

    Raises:
        ModelNotFound: If it is neither the tenant's own model nor an allowed one.
    """
    if is_default(asked, default):
        return ALIASES.get(default, default)
    allowed, name = allowed_models(), ALIASES.get(asked, asked)
    if name in allowed:
        return name
    known = ", ".join(sorted({shown_name(one) for one in (default, *allowed)}))
    raise ModelNotFound(
        f"There is no model {asked[:_QUOTED_CHARS]!r} here.",
        hint=f"Use one of: {known}; or fetch another model with `emberq models pull`.",
        param="model",
    )
