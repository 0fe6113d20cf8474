"""Closed pydantic models: an unknown key stops the run, and the error names the key and the nearest right one."""

import difflib
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dermaflux.errors import UserError


class ConfigError(UserError):
    """A configuration that cannot be used; the message says which file and key, and what to write instead."""


class Closed(BaseModel):
    """A model that refuses unknown keys and cannot be changed once made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _models_in(annotation):
    """All models that a type annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def _known_keys(model, location):
    """Names of the keys that would have been allowed where `location` (of a pydantic error) points."""
    for key in location[:-1]:
        field = getattr(model, "model_fields", {}).get(key)
        models = _models_in(field.annotation) if field else []
        # in a union, the location says after the index which member was tried
        model = next((m for m in models if m.__name__.lower() in location), models[0] if models else model)
    return list(model.model_fields)


def validate(model, values, source):
    """`values` (a dict from YAML) as an instance of `model`.

    Raises:
        ConfigError: naming `source`, each wrong key, what is wrong with it, and for an unknown key the nearest known one.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(map(str, problem["loc"])) or "(the whole file)"
            if problem["type"] == "extra_forbidden":
                known = _known_keys(model, problem["loc"])
                near = difflib.get_close_matches(str(problem["loc"][-1]), known, 1, 0.5)
                hint = f"did you mean `{near[0]}`?" if near else f"known keys here: {', '.join(known)}"
                lines.append(f"  {key}: unknown key; {hint}")
            else:
                lines.append(f"  {key}: {problem['msg']} (found: {problem['input']!r:.80})")
        raise ConfigError(f"{source} cannot be used:\n" + "\n".join(lines)) from None


def load(model, path):
    """The YAML file `path` as an instance of `model`; see `validate`."""
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"{path} does not exist")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    return validate(model, values, path)
