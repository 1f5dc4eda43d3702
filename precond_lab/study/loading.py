"""Finds a study on disk by path or name, loads it as a package of its own."""

import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from precond_lab.study.declaration import Study, StudyError

FOLDER = Path("studies")
"""Where studies are looked up by name, under the current directory."""


def available(folder: Path = FOLDER) -> dict[str, Path]:
    """Studies in a folder: `NAME/study.py` or `NAME.py`.

    Args:
        folder: Where to look.

    Returns:
        Name to the file that declares `STUDY`, sorted by name.
    """
    found = {path.parent.name: path for path in folder.glob("*/study.py")}
    found |= {path.stem: path for path in folder.glob("*.py") if not path.name.startswith("_")}
    return dict(sorted(found.items()))


def locate(path_or_name: str | Path) -> Path:
    """The file that declares a study.

    Args:
        path_or_name: `studies/NAME`, `studies/NAME/study.py`, `studies/NAME.py`, or NAME of one
            under `./studies`.

    Returns:
        Absolute path of the file.

    Raises:
        StudyError: There is none; the text lists the studies that there are.
    """
    path = Path(path_or_name).expanduser()
    for candidate in (path, path / "study.py", path.with_name(path.name + ".py") if path.name else path):
        if candidate.is_file() and candidate.suffix == ".py":
            return candidate.resolve()
    studies = available()
    if str(path_or_name) in studies:
        return studies[str(path_or_name)].resolve()
    wanted = path.parent.name if path.name == "study.py" else path.stem
    close = difflib.get_close_matches(wanted, studies, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    listed = f"the studies under ./{FOLDER} are: {', '.join(studies)}" if studies else f"./{FOLDER} has no studies"
    raise StudyError(f"there is no study {str(path_or_name)!r}{hint}; {listed}")


def _package(location: Path) -> str:
    """Make the study's folder a package with a name of its own, so that `from . import measure` works in it.

    The name holds a hash of the path: two studies of the same file name never share modules, and a worker
    process that loads the same path gets the same name, so that what it pickles can be found again.
    """
    name = f"study_{location.parent.name}_{hashlib.sha256(str(location).encode()).hexdigest()[:8]}"
    for loaded in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[loaded]
    first = location.parent / "__init__.py"
    if first.is_file():
        spec = importlib.util.spec_from_file_location(name, first, submodule_search_locations=[str(location.parent)])
        assert spec is not None and spec.loader is not None  # noqa: PT018
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        spec.loader.exec_module(package)
    else:
        package = ModuleType(name)
        package.__path__ = [str(location.parent)]
        sys.modules[name] = package
    return name


def load(path_or_name: str | Path) -> Study:
    """Load a study; its sibling modules are importable by relative imports.

    Args:
        path_or_name: As for `locate`.

    Returns:
        The declared `STUDY`.

    Raises:
        StudyError: There is no such study, its file does not run, or it declares no `STUDY`.
    """
    location = locate(path_or_name)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(f"{_package(location)}.{location.stem}")
    except StudyError as error:
        raise StudyError(f"{location}: {error}") from error
    except Exception as error:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).is_relative_to(location.parent)
        ]
        line = f", line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""
        text = "".join(traceback.format_exception_only(error)).strip()
        raise StudyError(f"{location} cannot be loaded{line}: {text}") from error
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        what = "declares no STUDY" if study is None else f"declares STUDY as a {type(study).__name__}"
        raise StudyError(f"{location} {what}; write STUDY = precond_lab.study.Study(name=..., ...)")
    return study
