"""Fresh copies of the arithmetic under names of their own, in which a fault can be planted.

A copy shares nothing with the original: not its records, nor what JAX has compiled. Text of its modules may be replaced
before they are loaded, and names in them afterwards: `copy.machine.sum_to_odd = ...`.
"""

import contextlib
import importlib
import importlib.abc
import importlib.util
import itertools
import sys
from pathlib import Path

import precond_lab

ORIGINAL = "precond_lab.arithmetic"
FOLDER = Path(precond_lab.__path__[0]) / "arithmetic"
_numbers = itertools.count()


class Copy:
    """The modules of one copy, as attributes; each is loaded when it is first asked for."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, module):
        return importlib.import_module(f"{self._name}.{module}")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the modules of one copy from the source of the original."""

    def __init__(self, name, replacements):
        self.name, self.replacements = name, replacements

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] != self.name:
            return None
        file = FOLDER.joinpath(*name.split(".")[1:])
        folder = file.is_dir()
        file = file / "__init__.py" if folder else file.with_suffix(".py")
        if not file.exists():
            return None
        return importlib.util.spec_from_file_location(
            name, file, loader=self, submodule_search_locations=[] if folder else None
        )

    def exec_module(self, module):
        file = Path(module.__file__)
        source = replaced(file.read_text(encoding="utf-8"), file.name, self.replacements)
        exec(compile(source.replace(ORIGINAL, self.name), file, "exec"), module.__dict__)


def replaced(source, file, replacements):
    """The source of a file with text in it replaced; what is replaced must stand there once.

    Args:
        source: the text.
        file: the name of the file, such as "machine.py".
        replacements: triples (file, old, new); those of other files are left out.
    """
    for where, old, new in replacements:
        if where == file:
            found = source.count(old)
            assert found == 1, f"{file} has {found} times, not once: {old!r}; state the replacement anew"
            source = source.replace(old, new)
    return source


@contextlib.contextmanager
def copied(*replacements):
    """A copy, with text replaced as triples (file, old, new) say; it is gone when the block ends."""
    for file in {file for file, _, _ in replacements}:
        assert (FOLDER / file).exists(), f"there is no {file}"
    name = f"arithmetic_copy_{next(_numbers)}"
    finder = _Finder(name, replacements)
    sys.meta_path.insert(0, finder)
    try:
        yield Copy(name)
    finally:
        sys.meta_path.remove(finder)
        for module in [module for module in sys.modules if module.split(".")[0] == name]:
            del sys.modules[module]
