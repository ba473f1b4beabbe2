"""Classes that users name with dots, and the packages that they are in."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from library.errors import InputError
from library.lookup import nearest, resolve

# What pip calls the package of a module, where that is another word.
PACKAGES = {
    "came_pytorch": "came-pytorch",
    "lion_pytorch": "lion-pytorch",
    "prodigyplus": "prodigy-plus-schedule-free",
    "pytorch_optimizer": "pytorch-optimizer",
}


def load_class(target: str, name: str, setting: str, kind: type) -> Callable[..., Any]:
    """The class behind "module:attribute", a `kind`, which the user of `setting` calls `name`.

    Raises InputError where it is not installed, with the command that installs it, or is no such class.
    """
    try:
        found: Any = resolve(target)
    except ImportError as missing:
        module = missing.name if isinstance(missing, ModuleNotFoundError) else None
        if module is None:
            raise InputError(f"{setting}: {name} cannot be loaded ({missing}).") from None
        package = PACKAGES.get(module.partition(".")[0], module.partition(".")[0])
        raise InputError(
            f"{setting}: {name} needs a package that is not installed; install it with: pip install {package}"
        ) from None
    except AttributeError:
        module, _, attribute = target.partition(":")
        raise InputError(f"{setting}: {module} has no {attribute}.") from None
    if not inspect.isclass(found) or not issubclass(found, kind):
        raise InputError(f"{setting}: {name} is no class made from torch's {kind.__name__}.")
    return found


def dotted_target(name: str) -> str:
    """The dotted name of a class as "module:attribute"."""
    module, _, attribute = name.rpartition(".")
    return f"{module}:{attribute}"


def check_names(setting: str, title: str, constructor: Callable[..., Any], given: Iterable[str]) -> None:
    """InputError for an argument that a constructor does not have, naming those it has; some take any."""
    parameters: Mapping[str, inspect.Parameter] = inspect.signature(constructor).parameters
    known = [key for key in parameters if key not in ("params", "lr", "args", "optimizer")]
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    for key in given:
        if key in known or (takes_any and key not in parameters and key != "lr"):
            continue
        guess = nearest(key, known)
        hint = f' (did you mean "{guess}"?)' if guess else ""
        raise InputError(f'{setting}: {title} has no argument "{key}"{hint}; it has {", ".join(known)}.')
